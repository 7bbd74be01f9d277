# What is checked once all rules are known, before a job is made: the targets, and what they need.
# Only in the snakemake that a person started; those inside jobs have been checked by it.

import contextlib
import io
import os
import subprocess

from snakemake.cli import parse_args
from unmask.readiness import idle_gpus, lacking
from unmask.slurm import slurm_lacks
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


rule pilot:
    log:
        "logs/pilot.log",
    localrule: True
    """Take the scale's model the whole way to a table: one seed, one task, ten buffers, results of its own."""
    params:
        command=f"scale={GRID.scale}-pilot -- main",
    shell:
        "echo 'the same as: snakemake … --config {params.command}' | tee {log}; exit 1"


def pilot_command():
    """This command line with `main` in place of `pilot`, at the pilot of its scale."""
    words = ["main" if word == "pilot" else word for word in sys.argv[1:]]
    words = [word for word in words if not word.startswith("scale=")]
    end = words.index("--") if "--" in words else len(words)
    place = words.index("--config") if "--config" in words[:end] else end
    added = [] if place < end else ["--config"]
    at = place + 1 if place < end else end
    words[at:at] = [*added, f"scale={GRID.scale.removesuffix('-pilot')}-pilot"]
    return [sys.executable, "-m", "snakemake", *words]


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
    if "pilot" in targets:
        sys.exit(subprocess.run(pilot_command(), check=False).returncode)
    if options.executor == "slurm" and not options.dryrun and not options.touch:
        first_check = options.slurm_init_seconds_before_status_checks
        if said := slurm_lacks(options.slurm_status_command, first_check):
            raise WorkflowError(said)


if (options := command_line()) is not None:
    check_before_start(options)
