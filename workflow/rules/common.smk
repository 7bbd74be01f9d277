# Helpers of the rules: look-ups in the grid, resources of jobs, and the checks before a start. Defines no rules.
import contextlib
import io
import json
import math
import os
import subprocess

from snakemake.cli import parse_args
from unmask.planning.checkpoint_hours import plan_lines
from unmask.planning.overwriting import endangered, unmigrated
from unmask.planning.readiness import idle_gpus, lacking, unfair
from unmask.planning.slurm_probe import slurm_lacks
from unmask.planning.targets import (
    asked,
    checkpoints_of,
    tuned_by,
    unknown_targets,
    unlimited,
)

# A file of a sweep has its name after a hyphen.
SWEEPS = {f"-{sweep}".rstrip("-"): sweep for sweep in GRID.sweeps}


def reported(wildcards):
    """Return the experiments of a report: the same as those of its claims."""
    return LINEAGE.experiments_of(f"{wildcards.extent}claims")


def toy_of(wildcards, *paths):
    """Return files of the exact toy if a report shows it."""
    if not LINEAGE.shows_toy(wildcards.extent):
        return []
    return [f"results/{wildcards.scale}/{path}" for path in paths]


def told(experiment):
    """Return the files of an experiment that a report reads: tables, figures, scores, specs, manifests, samples."""
    one, root = GRID.experiments[experiment], f"results/{GRID.place}"
    shown = [
        path for path in GRID.artifacts(experiment) if path.endswith((".md", ".png"))
    ]
    specs = [f"{root}/runs/{run}/spec.yaml" for run in one.runs]
    trained = [run for run in one.runs if GRID.runs[run].trains]
    manifests = [f"{root}/runs/{run}/manifest.json" for run in trained]
    samples = [*GRID.samples(experiment), *LINEAGE.samples_read([experiment])]
    made = [*GRID.metrics(experiment), *manifests, *samples]
    return [*shown, f"{root}/scores/{experiment}.csv", *specs, *made]


def further_claims(wildcards):
    """Return the CLI arguments with further claims, and with their differences if these are there and up to date."""
    words = []
    for claims, differences in LINEAGE.further().items():
        words += ["--further", f"{CLONE}/{claims}"]
        # Made by another version, the differences could be of other claims.
        name = Path(differences).stem
        job = SURROGATES_FIGURE if name == "surrogates-claims" else CLAIMS
        of_file = SimpleNamespace(scale=wildcards.scale, claims=name)
        if os.path.exists(differences) and job.is_done(of_file):
            words.append(differences)
    return shlex.join(words)


def again(path):
    """Return the command that makes a file of this scale and fidelity again, with what the command line overrides."""
    words = [f"scale={config['scale']}", f"fidelity={config['fidelity']}"]
    chosen = ("scale=", "fidelity=")
    words += [f"set={word}" for word in OVERRIDES if not word.startswith(chosen)]
    return f"snakemake --cores 2 {path} --config {shlex.join(words)}"


def without_claims(targets):
    """Replace the field's claims among targets by the experiments that they name, which the grid does not know."""
    found = []
    for target in targets:
        is_claims = Path(target).name.partition(".")[0] == "field_claims"
        found += LINEAGE.experiments_of("field_claims") if is_claims else [target]
    return found


def choices_of(wildcards):
    """Return the files with the choices of a sweep."""
    names = GRID.sweeps[SWEEPS[wildcards.of]]
    return [f"results/{wildcards.scale}/tuning/{name}.yaml" for name in names]


def base_model(wildcards):
    """Return the folder of a run's base model."""
    return f"results/{wildcards.scale}/models/{GRID.runs[wildcards.run].model}"


def base_of_checkpoint(wildcards):
    """Return the folder of the weights of a checkpoint's base model."""
    model = GRID.checkpoints[wildcards.released].spec.model
    return f"results/{wildcards.scale}/models/{model}/weights"


def training_gpus(wildcards, resources):
    """Return the number of GPUs of a training run over all its nodes: those reserved by the profile on one node."""
    run, reserved = wildcards.run, resources.get("gpu")

    # Several nodes reserve GPUs per node (gres), and a total from the profile would contradict that.
    if GRID.nodes(run) > 1:
        if reserved:
            raise WorkflowError(
                f"train_policy:gpu in the profile: {run} is trained on {GRID.nodes(run)} nodes. Remove it, and set "
                f"scales.{config['scale']}.cost.gpus in config.yaml to the GPUs that a training run may have"
            )
        return GRID.gpus(run)
    return reserved or 1


def on_several_nodes(value):
    """Return a resource function for training on several nodes, value(nodes, GPUs per node); None on one node."""

    def resource(wildcards):
        nodes, gpus = GRID.nodes(wildcards.run), GRID.gpus(wildcards.run)
        return value(nodes, gpus // nodes) if nodes > 1 else None

    return resource


def memory(gpus):
    """Return a resource function for a job's MB per node: job_memory × (1 + processes), doubled at a retry."""

    def resource(wildcards, attempt):
        each = GRID.cost.job_memory * 1000 * min(attempt, 2)
        return each * (1 + (gpus(wildcards) if callable(gpus) else gpus))

    return resource


def on_a_node(wildcards):
    """Return the number of processes of a training run on each node."""
    return GRID.gpus(wildcards.run) // GRID.nodes(wildcards.run)


def minutes(wildcards, attempt):
    """Return the time limit [min] of a job other than training: `cost.evaluation_hours` × attempt, at most × 3."""
    return math.ceil(60 * GRID.cost.evaluation_hours * min(attempt, 3))


def command_line():
    """Return the parsed command line including profiles; None if snakemake is a library or would run no rule."""
    program = os.path.basename(sys.argv[0])
    if not workflow.is_main_process or program not in ("snakemake", "__main__.py"):
        return None

    # Snakemake does not pass its options on to the Snakefile, so they are parsed again: silently, because the parser
    # reports the profile, and in the folder of the start, which --directory has left and which holds the profiles.
    said = io.StringIO()
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
    """Return this command line with `main` instead of `pilot`, at the pilot of its scale."""
    words = ["main" if word == "pilot" else word for word in sys.argv[1:]]
    words = [word for word in words if not word.startswith("scale=")]

    # Add to an existing --config, since a second one would replace the first; after `--` only targets may follow.
    end = words.index("--") if "--" in words else len(words)
    place = words.index("--config") if "--config" in words[:end] else end
    added = [] if place < end else ["--config"]
    at = place + 1 if place < end else end
    words[at:at] = [*added, f"scale={GRID.scale.removesuffix('-pilot')}-pilot"]
    return [sys.executable, "-m", "snakemake", *words]


def check_before_start(options):
    """Check that everything the targets need is there, also in a dry run; raises WorkflowError with all that lacks.

    Plans and pilots are run here, and the process exits.
    """
    targets = list(options.targets) or ["all"]

    # Plans and `so_far` show runs that would be trained again under an old name; they train none, so this is a warning.
    views = [name for target in targets for name in (PLANS | SO_FAR).get(target, [])]
    for line in unmigrated(GRID, asked(GRID, views).runs):
        logger.warning(line)

    # As a job, a plan would wait about 40 s for the executor's timers and be retried when it refuses a run.
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
    if lines := unknown_targets(GRID, targets, known) + unlimited(GRID, targets):
        raise WorkflowError("\n".join(lines))

    # Before what is missing, because revisions may be pinned after a look at the cost.
    named = [name for target in targets for name in checkpoints_of(GRID, target)]
    if named and options.dryrun:
        logger.info("\n".join(plan_lines(GRID, list(dict.fromkeys(named)))))

    # Missing files, unpinned revisions and idle GPUs, in one list instead of one failed job after the other.
    work = asked(GRID, without_claims(targets))
    given = (options.set_resources or {}).get("train_policy", {}).get("gpu")
    gpus = given.value if given and isinstance(given.value, int) else None
    missing = [
        f"{file_of(line, config, GIVEN)}: {line}"
        for line in lacking(GRID, work, config)
    ]
    uneven = unfair(GRID) if any(tuned_by(GRID, target) for target in targets) else []
    if lines := missing + uneven + idle_gpus(GRID, work, gpus):
        listed = "".join(f"\n  - {line}" for line in lines)
        raise WorkflowError(
            f"not ready for {' '.join(targets)} at scale {GRID.scale}, {len(lines)} to fix:{listed}"
        )

    # Under an old name a setting counts as changed, and all finished runs would be trained again.
    # An unfinished run with checkpoints would start again.
    old = unmigrated(GRID, work.runs)
    if old and not OVERWRITE:
        raise WorkflowError("\n".join(old))

    # A changed setting silently retrains a run. Where that would cost many GPU-hours, it must be explicit.
    refused = endangered(GRID, work.runs, GRID.runtime.overwrite_above)
    if refused and not OVERWRITE:
        listed = "".join(f"\n  - {line}" for line in refused)
        raise WorkflowError(
            f"{len(refused)} finished training runs above runtime.overwrite_above, {GRID.runtime.overwrite_above} "
            f"GPU-hours, would be replaced: undo the change of settings, or add `--config overwrite=true`:{listed}"
        )

    # The pilot is another scale, hence another grid: a second snakemake runs it, after the checks of this scale.
    if "pilot" in targets:
        sys.exit(subprocess.run(pilot_command(), check=False).returncode)

    # Without a working status command snakemake would never see its jobs end.
    if options.executor == "slurm" and not options.dryrun and not options.touch:
        first_check = options.slurm_init_seconds_before_status_checks
        if said := slurm_lacks(options.slurm_status_command, first_check):
            raise WorkflowError(said)
