# What is checked once all rules are known, before a job is made: the targets, and what they need.
# Only in the snakemake that a person started; those inside jobs have been checked by it.

import contextlib
import io
import os
import subprocess

from snakemake.cli import parse_args
from unmask.readiness import idle_gpus, lacking
from unmask.targets import asked, unknown_targets


def command_line():
    """The command line with its profiles; None where snakemake is used as a library, or does not run any rule."""
    program = os.path.basename(sys.argv[0])
    if not workflow.is_main_process or program not in ("snakemake", "__main__.py"):
        return None
    with contextlib.redirect_stderr(
        io.StringIO()
    ):  # it says a second time which profile it uses
        _, options = parse_args(sys.argv[1:])
    other = options.lint or options.list_rules or options.list_target_rules
    return None if other or options.unlock or options.print_compilation else options


def check_before_start(options):
    """Stop with everything that the targets lack, in a dry run too; a plan is answered at once and makes no job.

    As a job it would wait for the executor's timers, some 40 s, and be repeated when it refuses.
    """
    targets = list(options.targets) or ["all"]
    if PLANS.keys() >= set(targets) and not options.dryrun:
        experiments = list(
            dict.fromkeys(name for target in targets for name in PLANS[target])
        )
        answer = [
            sys.executable,
            f"{SRC}/show_plan.py",
            json.dumps(config),
            "--experiments",
            *experiments,
        ]
        sys.exit(subprocess.run(answer, check=False).returncode)
    known = [rule.name for rule in workflow.rules]
    if lines := unknown_targets(GRID, targets, known):
        raise WorkflowError("\n".join(lines))
    work = asked(GRID, targets)
    given = (options.set_resources or {}).get("train_policy", {}).get("gpu")
    gpus = given.value if given and isinstance(given.value, int) else None
    if lines := lacking(GRID, work, config) + idle_gpus(GRID, work, gpus):
        listed = "".join(f"\n  - {line}" for line in lines)
        raise WorkflowError(
            f"not ready for {' '.join(targets)} at scale {GRID.scale}, {len(lines)} to fix:{listed}"
        )


if (options := command_line()) is not None:
    check_before_start(options)
