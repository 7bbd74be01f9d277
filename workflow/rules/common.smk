# What rules ask of the grid and of the profile: no rules, no files.
import math


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
    one, root = GRID.experiments[experiment], f"results/{GRID.scale}"
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
