"""Checks of merged settings: contradictions that no single block shows."""

from __future__ import annotations

from typing import Any

from unmask.config.grid.grid import Experiment
from unmask.config.schema.introspection import defines, method_class
from unmask.config.schema.scales import Hardware
from unmask.config.schema.types import GeneratedData, NumpyChoice
from unmask.config.specs import DataSpec, RunSpec

LONGEST = 255  # bytes of a file name on common file systems
# A run that continues training an adapter must have an adapter of the same shape.
ADAPTER = ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets")


def contradictions(
    runs: list[RunSpec],
    datasets: dict[str, DataSpec],
    tests: dict[str, DataSpec],
    cost: Hardware,
) -> list[str]:
    """Return one line per contradiction in the merged settings of runs, training data and test data."""
    lines = _same_names(runs)
    by_name = {run.name: run for run in runs}
    for run in runs:
        if run.start_from:
            lines += _of_start(run, by_name[run.start_from])

    for run in runs:
        lines += _of_run(run, cost)
    for task, data in tests.items():
        lines += _of_test(task, data)
    for task, data in datasets.items():
        lines += _of_bounds(task, data)
    return lines


def _same_names(runs: list[RunSpec]) -> list[str]:
    """Return a line for each run that has the name of another one, but other settings."""
    # A run's name is its address on disk: the two would overwrite each other.
    lines = []
    by_name: dict[str, RunSpec] = {}
    for run in runs:
        if by_name.setdefault(run.name, run) != run:
            which = f"{run.method}, {run.variant}"
            lines.append(f"experiments.*.grid, or a scale's: two values have the same name in paths: {which}")
    return lines


def _of_start(run: RunSpec, start: RunSpec) -> list[str]:
    """Return lines on a run that starts from another run's adapter: it trains that one further, or one on top of it."""
    place = f"methods.{run.method}"
    if run.training.merge_start:
        if run.training.lora_rank == 0 or start.training.lora_rank > 0:
            return []
        how = f"{start.method} trains every weight, which no adapter on the base model can hold"
        return [f"{place}.lora_rank: {how}; set it to 0, or give {start.method} a rank"]

    lines = []
    for key in ADAPTER:
        mine = getattr(run.training, key)
        its = getattr(start.training, key)
        if mine != its:
            how = f"{mine} cannot continue training an adapter of {start.method} with {its}"
            lines.append(f"{place}.{key}: {how}")
    return lines


def _of_run(run: RunSpec, cost: Hardware) -> list[str]:
    """Return lines on the settings of one run on this hardware."""
    if not run.trains:
        return []
    place = f"methods.{run.method}"
    training = run.training
    lines = []
    if training.quantisation != "none" and training.lora_rank == 0:
        how = f"quantisation {training.quantisation} trains an adapter only"
        lines.append(f"{place}.lora_rank: 0 trains every weight, and {how}; give it a rank")
    lines += _too_coarse(run, cost, place)

    if method_class(run.algorithm).demonstrations:
        lines += _undemonstrated(run, place)
    elif training.group_size == 1:
        lines.append(f"{place}.group_size: 1 response has no others to be compared with; use 2 or more")

    # What a method knows of its own settings.
    method = method_class(run.algorithm)(**run.method_settings)
    for key, text in method.check(run):
        lines.append(f"{place}.{key}, or a grid's: {text}")
    return lines


def _too_coarse(run: RunSpec, cost: Hardware, place: str) -> list[str]:
    """Return a line if a run trains all weights in bfloat16, which `Policy.make_trainable` refuses."""
    dtype = run.training.dtype
    # Whether `auto` is bfloat16 depends on the device, which the configuration knows only if it states its memory.
    on_gpu = dtype == "auto" and cost.gpu_memory is not None
    if run.training.lora_rank > 0 or not (dtype == "bfloat16" or on_gpu):
        return []
    what = "auto is bfloat16 on a GPU, which" if on_gpu else "bfloat16"
    return [f"{place}.dtype: {what} rounds away small updates of all weights (lora_rank 0); set it to float32"]


def _undemonstrated(run: RunSpec, place: str) -> list[str]:
    """Return a line if a run has no demonstrations to learn from, or no answers to validate with."""
    if run.corpus:
        if run.training.validate_every == 0:
            return []
        return [f"{place}.validate_every: {run.task} is a corpus and has no answers to check; set it to 0"]

    if not run.training.prefill:
        how = f"demonstrations of {run.task} continue the opening that the prompt contains"
        return [f"{place}.prefill: {how}; set it to true"]
    if not defines("tasks", run.task, "demonstration"):
        file = f"src/unmask/tasks/{run.task}.py"
        fix = f"write `demonstration` in {file}, give {place} a corpus, or take {run.task} out of the tasks"
        return [f"tasks.{run.task}: {run.method} learns from demonstrations, and this task has none; {fix}"]
    return []


def _of_test(task: str, data: DataSpec) -> list[str]:
    """Return a line if rows are chosen among test problems that are not stored."""
    is_drawn = isinstance(data.test_subset, NumpyChoice)
    if not is_drawn or not isinstance(data.test_source, GeneratedData):
        return []
    why = "chooses among stored rows, and test_source is generated"
    return [f"tasks.{task}.test_subset: {why}; set {{rule: first}}"]


def _of_bounds(task: str, data: DataSpec) -> list[str]:
    """Return a line for each setting `min_x` of a task that is above its `max_x`."""
    lines = []
    for key, low in data.settings.items():
        if not key.startswith("min_"):
            continue
        bound = key.replace("min_", "max_", 1)
        high = data.settings.get(bound)
        if high is not None and low > high:
            lines.append(f"tasks.{task}.{key}: {low} is more than {bound} {high}")
    return lines


def too_long(experiment: Experiment, scale: str, runs: list[RunSpec]) -> list[str]:
    """Return a line on the longest run name of an experiment if file systems cannot store it.

    The longest names are those of SLURM's log folders, one per job, which contain scale, run and evaluation. All other
    names contain no settings and are short by their type, `Name`, even with a temporary suffix.
    """
    _, _, evaluation = experiment.evaluation_stem.partition("-")
    evaluations = [evaluation]
    for tasks in experiment.transfers.values():
        evaluations += [f"{evaluation}-on-{task}" for task in tasks]
    longest = max(evaluations, key=len)

    run = max(runs, key=lambda run: len(run.name.encode()), default=None)
    if run is None:
        return []
    size = len(f"{scale}_{run.name}_{longest}".encode())
    if size <= LONGEST:
        return []
    parts = [run.method, run.task, longest, *run.variant.split("+")]
    what = f"a run of {run.method} on {run.task} has a name of {size} bytes in paths"
    limit = f"the limit is {LONGEST} bytes"
    fix = f"remove an axis from the grid, or shorten the longest part, {max(parts, key=len)}"
    return [f"experiments.{experiment.name}.grid, or the scale's: {what}, and {limit}; {fix}"]


def undrawable(experiment: str, figures: list[str], grid: dict[str, list[Any]], runs: list[RunSpec]) -> list[str]:
    """Return a line if `accuracy_by_setting` is requested but no run varies a setting of the grid."""
    changed = set()
    for run in runs:
        for part in run.variant.split("+"):
            setting, _, _ = part.partition("~")
            changed.add(setting)
    if "accuracy_by_setting" not in figures or grid.keys() & changed:
        return []
    what = "accuracy_by_setting needs a setting to draw against, but all runs have its default"
    fix = "change the grid, here or in the scale's experiment_changes"
    return [f"experiments.{experiment}.figures: {what}; {fix}"]
