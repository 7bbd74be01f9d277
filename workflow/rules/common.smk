# What rules ask of the grid and of the profile: no rules, no files.
import contextlib
import io
import json
import math
import os
import subprocess

from snakemake.cli import parse_args
from unmask.overwriting import endangered
from unmask.readiness import idle_gpus, lacking
from unmask.slurm import slurm_lacks
from unmask.targets import asked, unknown_targets


def protocol_arguments(experiment):
    """How the samples behind a table were made; a diagnosis has none."""
    if GRID.experiments[experiment].rows == "steps":
        return []
    return ["--protocol", Protocol.of(GRID, experiment).to_json()]


def checked(claims):
    """Experiments that claims are tested on: those of `all`, or of `everything`."""
    return GRID.wanted if claims == "claims" else GRID.everything


def reported(wildcards):
    """Experiments of a report."""
    return checked(f"{wildcards.extent}claims")


def told(experiment):
    """What a report reads of an experiment: its tables and pictures, scores, and runs."""
    one, root = GRID.experiments[experiment], f"results/{GRID.place}"
    shown = [
        path for path in GRID.artifacts(experiment) if path.endswith((".md", ".png"))
    ]
    specs = [f"{root}/runs/{run}/spec.yaml" for run in one.runs]
    trained = [run for run in one.runs if GRID.runs[run].trains]
    manifests = [f"{root}/runs/{run}/manifest.json" for run in trained]
    made = [*GRID.metrics(experiment), *manifests, *GRID.samples(experiment)]
    return [*shown, f"{root}/scores/{experiment}.csv", *specs, *made]


def again(path):
    """The command that makes a file of this scale and fidelity."""
    chosen = f"scale={config['scale']} fidelity={config['fidelity']}"
    return f"snakemake --cores 2 {path} --config {chosen}"


def base_model(wildcards):
    """The folder of a run's base model."""
    return f"results/{wildcards.scale}/models/{GRID.runs[wildcards.run].model}"


def training_gpus(wildcards, resources):
    """The GPUs of a training run, of all its nodes together."""
    run, reserved = wildcards.run, resources.get("gpu")
    if GRID.nodes(run) > 1:
        if reserved:
            raise WorkflowError(
                f"train_policy:gpu in the profile: {run} is trained on {GRID.nodes(run)} nodes. Take it out, and set "
                f"scales.{config['scale']}.cost.gpus in config.yaml to the GPUs that a training run may have"
            )
        return GRID.gpus(run)
    return reserved or 1


def on_several_nodes(value):
    """A resource of trainings on several nodes, by their number and the GPUs of each; others do not ask for it."""

    def resource(wildcards):
        nodes, gpus = GRID.nodes(wildcards.run), GRID.gpus(wildcards.run)
        return value(nodes, gpus // nodes) if nodes > 1 else None

    return resource


def memory(gpus):
    """MB of a node that a job asks for: `cost.job_memory` for each process on it and once more, doubled at a retry."""

    def resource(wildcards, attempt):
        each = GRID.cost.job_memory * 1000 * min(attempt, 2)
        return each * (1 + (gpus(wildcards) if callable(gpus) else gpus))

    return resource


def on_a_node(wildcards):
    """Processes of a training run on one node."""
    return GRID.gpus(wildcards.run) // GRID.nodes(wildcards.run)


def minutes(wildcards, attempt):
    """Time limit of a job that is no training run: `cost.evaluation_hours`, more at each retry, three times at most."""
    return math.ceil(60 * GRID.cost.evaluation_hours * min(attempt, 3))


def command_line():
    """The command line with its profiles; None where snakemake is used as a library, or does not run any rule."""
    program = os.path.basename(sys.argv[0])
    if not workflow.is_main_process or program not in ("snakemake", "__main__.py"):
        return None
    said = io.StringIO()  # it says a second time which profile it uses
    # A profile is looked for where snakemake was started, and --directory has led away from there.
    start = os.environ.get("PWD", ".")
    try:
        with contextlib.redirect_stderr(said), contextlib.chdir(start):
            _, options = parse_args(sys.argv[1:])
    except SystemExit:
        raise WorkflowError(
            f"the profile is not found from {start}, which $PWD names: {said.getvalue().strip()}. Start snakemake with "
            "`cd` to the folder, or give --profile as an absolute path"
        ) from None
    other = options.lint or options.list_rules or options.list_target_rules
    return None if other or options.unlock or options.print_compilation else options


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
    refused = endangered(GRID, work.runs, GRID.runtime.overwrite_above)
    if refused and not OVERWRITE:
        listed = "".join(f"\n  - {line}" for line in refused)
        raise WorkflowError(
            f"{len(refused)} finished training runs above runtime.overwrite_above, {GRID.runtime.overwrite_above} "
            f"GPU-hours, would be replaced: take the change back, or add `--config overwrite=true`:{listed}"
        )
    if "pilot" in targets:
        sys.exit(subprocess.run(pilot_command(), check=False).returncode)
    if options.executor == "slurm" and not options.dryrun and not options.touch:
        first_check = options.slurm_init_seconds_before_status_checks
        if said := slurm_lacks(options.slurm_status_command, first_check):
            raise WorkflowError(said)
