"""Checks of merged settings: contradictions that no single block shows."""

from __future__ import annotations

from typing import Any

from unmask.config.grid.grid import Experiment
from unmask.config.schema.introspection import defines, learns_demonstrations
from unmask.config.schema.types import GeneratedData, NumpyChoice
from unmask.config.specs import DataSpec, RunSpec

LONGEST = 255  # bytes of a file name on common file systems
# A run that continues training an adapter must have an adapter of the same shape.
ADAPTER = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")


def contradictions(runs: list[RunSpec], datasets: dict[str, DataSpec], tests: dict[str, DataSpec]) -> list[str]:
    """Return one line per contradiction in the merged settings of runs, training data and test data."""
    lines: list[str] = []

    # A run's name is its address on disk: two runs with one name but different settings would overwrite each other.
    by_name: dict[str, RunSpec] = {}
    for run in runs:
        if by_name.setdefault(run.name, run) != run:
            lines.append(
                f"experiments.*.grid, or a scale's: two values have the same name in paths: {run.method}, {run.variant}"
            )

    # Runs that start from another run's adapter: either a fresh adapter on top of it, or the same one trained further.
    for run, start in [(run, by_name[run.start_from]) for run in runs if run.start_from]:
        if run.training.merge_start:
            if run.training.lora_rank and not start.training.lora_rank:
                how = f"{start.method} trains every weight, which no adapter on the base model can hold"
                lines.append(f"methods.{run.method}.lora_rank: {how}; set it to 0, or give {start.method} a rank")
            continue
        for key in ADAPTER:
            mine, its = getattr(run.training, key), getattr(start.training, key)
            if mine != its:
                change = f"{mine} cannot continue training an adapter of {start.method} with {its}"
                lines.append(f"methods.{run.method}.{key}: {change}")

    for run in runs:
        if run.trains and run.training.quantisation != "none" and run.training.lora_rank == 0:
            how = f"quantisation {run.training.quantisation} trains an adapter only"
            lines.append(f"methods.{run.method}.lora_rank: 0 trains every weight, and {how}; give it a rank")
        if not run.trains:
            continue

        # A trajectory's likelihood is recomputed with plain forward passes. With a cache, guidance or forbidden tokens
        # the sampler drew from other distributions.
        sampler = run.rollout_sampler
        bent = [key for key in ("cache", "guidance", "forbidden") if getattr(sampler, key) not in ("none", 0.0, [])]
        if bent and _scores_trajectories(run):
            how = f"trajectory scores plain passes, and the sampler {run.training.sampler} has {' and '.join(bent)}"
            lines.append(f"methods.{run.method}.likelihood, or a grid's: {how}; choose a sampler without, or elbo")

    for run in runs:
        lines += _undemonstrated(run) + _uncounted(run) + _unlearnable(run)

    for task, data in tests.items():
        if isinstance(data.test_subset, NumpyChoice) and isinstance(data.test_source, GeneratedData):
            why = "chooses among stored rows, and test_source is generated"
            lines.append(f"tasks.{task}.test_subset: {why}; set {{rule: first}}")

    # Each setting `min_x` of a task has its bound in `max_x`, if there is one.
    for task, data in datasets.items():
        for key in data.settings:
            low, high = data.settings[key], data.settings.get(f"max_{key[4:]}")
            if key.startswith("min_") and high is not None and low > high:
                lines.append(f"tasks.{task}.{key}: {low} is more than max_{key[4:]} {high}")
    return lines


def _uncounted(run: RunSpec) -> list[str]:
    """Return a line if a coupled-GRPO run indexes masks by micro-step but has no micro-batches."""
    # Masks are indexed by micro-batch: without micro-batches every update would use the same few.
    own = run.method_settings
    if run.algorithm != "coupled_grpo" or own["mask_index"] != "micro_step" or own["micro_batch_rows"]:
        return []
    how = "micro_step counts micro-batches, and micro_batch_rows is 0"
    return [f"methods.{run.method}.mask_index, or a grid's: {how}; set micro_batch_rows, or mask_index: update"]


def _unlearnable(run: RunSpec) -> list[str]:
    """Return a line if DiFFPO trains the threshold of a sampler that has none."""
    own = run.method_settings
    if run.algorithm != "diffpo" or own["learn"] == "model" or run.rollout_sampler.rule == "adaptive":
        return []
    how = f"{own['learn']} trains a threshold, and the sampler {run.training.sampler} has none"
    return [f"methods.{run.method}.learn, or a grid's: {how}; choose a sampler with rule: adaptive, or learn: model"]


def _undemonstrated(run: RunSpec) -> list[str]:
    """Return a line if a run has nothing to learn from, or to validate on.

    RL needs groups of at least two responses; SFT needs demonstrations, and a corpus has no answers to validate with.
    """
    where, training = f"methods.{run.method}", run.training
    if not run.trains or not learns_demonstrations(run.algorithm):
        alone = run.trains and training.group_size == 1
        return [f"{where}.group_size: 1 response has no others to be compared with; use 2 or more"] if alone else []
    if run.corpus and training.validate_every:
        return [f"{where}.validate_every: {run.task} is a corpus and has no answers to check; set it to 0"]
    if not run.corpus and not training.prefill:
        how = f"demonstrations of {run.task} continue the opening that the prompt contains"
        return [f"{where}.prefill: {how}; set it to true"]
    if not defines("tasks", run.task, "demonstration"):
        file = f"src/unmask/tasks/{run.task}.py"
        fix = f"write `demonstration` in {file}, give {where} a corpus, or take {run.task} out of the tasks"
        return [f"tasks.{run.task}: {run.method} learns from demonstrations, and this task has none; {fix}"]
    return []


def too_long(experiment: Experiment, scale: str, runs: list[RunSpec]) -> list[str]:
    """Return a line on the longest run name of an experiment if file systems cannot store it.

    The longest names are those of SLURM's log folders, one per job, which contain scale, run and evaluation. All other
    names contain no settings and are short by their type, `Name`, even with a temporary suffix.
    """
    tasks = [task for some in experiment.transfers.values() for task in some]
    end = max(
        (experiment.evaluation_stem, *(f"{experiment.evaluation_stem}-on-{task}" for task in tasks)), key=len
    ).partition("-")[2]
    names = {f"{scale}_{run.name}_{end}": run for run in runs}
    longest = max(names, key=lambda name: len(name.encode()), default="")
    size = len(longest.encode())
    if size <= LONGEST:
        return []
    run = names[longest]
    part = max((run.method, run.task, end, *run.variant.split("+")), key=len)
    what = f"a run of {run.method} on {run.task} has a name of {size} bytes in paths, and the limit is {LONGEST} bytes"
    fix = f"remove an axis from the grid, or shorten the longest part, {part}"
    return [f"experiments.{experiment.name}.grid, or the scale's: {what}; {fix}"]


def _scores_trajectories(run: RunSpec) -> bool:
    """Return True if a DMPO run scores responses along the sampler's own trajectory."""
    # Only the weights (α > 0) and the model baseline use likelihoods; reward_only has neither.
    own = run.method_settings
    exact = run.algorithm == "dmpo" and own["likelihood"] == "trajectory" and own["loss_kind"] != "reward_only"
    return exact and (own["alpha"] > 0 or own["baseline"] == "model")


def undrawable(experiment: str, figures: list[str], grid: dict[str, list[Any]], runs: list[RunSpec]) -> list[str]:
    """Return a line if `accuracy_by_setting` is requested but no run varies a setting of the grid."""
    changed = {part.partition("~")[0] for run in runs for part in run.variant.split("+")}
    if "accuracy_by_setting" not in figures or grid.keys() & changed:
        return []
    what = "accuracy_by_setting needs a setting to draw against, but all runs have its default"
    return [f"experiments.{experiment}.figures: {what}; change the grid, here or in the scale's experiment_changes"]
