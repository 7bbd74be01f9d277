# Checks of the targets and of everything they need (common.smk), once all rules are known and before a job is created.
# Only in the snakemake that a user started: it has checked what those inside jobs run.

if (options := command_line()) is not None:
    check_before_start(options)
