# What is checked once all rules are known, before a job is made (common.smk): the targets, and what they need.
# Only in the snakemake that a person started; those inside jobs have been checked by it.

if (options := command_line()) is not None:
    check_before_start(options)
