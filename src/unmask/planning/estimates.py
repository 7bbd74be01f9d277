"""Hours and memory of every run of a grid: estimated from its settings, calibrated on the runs that are done.

Torch-free and read-only, for `plan`. Hours are GPU-hours, or process-hours where the scale has no GPUs. Until something
is done they follow from the throughput that `cost` assumes. After that, training hours are scaled by the ratio of
measured to estimated hours of done training runs of the same method, evaluation hours by that of all done evaluations.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from unmask.common.manifest import read_manifest
from unmask.common.parquet import read_rows
from unmask.config.grid.grid import Grid
from unmask.models.shapes import Shape, shape_of
from unmask.planning.flops import evaluation_flops, hours, training_flops
from unmask.planning.memory_fit import memory_by_phase
from unmask.planning.status import RunStatus

DONE = ("done", "stale")  # a stale run was made by different code, but its time still counts


@dataclass(frozen=True)
class Estimate:
    """Resources that one run needs; None where its base model or its data are not known yet."""

    run: str
    memory: dict[str, float]  # peak GB of a GPU by phase; empty if unknown
    training: float | None  # hours, as all below
    evaluation: float | None
    spent: float
    to_go: float
    training_measured: bool = False  # calibrated on done runs; else at the assumed throughput
    evaluation_measured: bool = False


def estimates(grid: Grid, evaluations: dict[str, list[str]], found: dict[str, RunStatus]) -> dict[str, Estimate]:
    """Return the estimate of each run in `evaluations`, by name.

    `evaluations` lists the evaluations of each run, `found` has the progress of the runs that train.
    """
    assumed = {name: _training_hours(grid, name) for name in evaluations}
    spent = {name: _spent_training(grid, one) for name, one in found.items()}

    # One factor per method: seeds and tasks of a method share it, each applied to its own number of operations.
    done: dict[str, list[str]] = defaultdict(list)
    for name, one in found.items():
        # A run whose manifest cannot be read is stale too, but has step 0 and no time to learn from.
        if one.state in DONE and one.step == one.updates:
            done[grid.runs[name].method].append(name)
    by_method = {method: _factor([(spent[n], assumed[n]) for n in names]) for method, names in done.items()}

    # Evaluations only decode, whatever method trained the policy, so that one factor serves all of them.
    evaluated = {(n, e): _spent_evaluating(grid, n, e) for n, names in evaluations.items() for e in names}
    evaluating = {key: _evaluation_hours(grid, *key) for key in evaluated}
    overall = _factor([(evaluated[key], evaluating[key]) for key in evaluated if evaluated[key]])

    made = {}
    for name, names in evaluations.items():
        factor = by_method.get(grid.runs[name].method)
        training = _scaled(assumed[name], factor)
        each = {e: _scaled(evaluating[name, e], overall) for e in names}
        # Base models are not in `found`: they have no training left.
        left = 1 - found[name].step / found[name].updates if name in found else 0
        made[name] = Estimate(
            run=name,
            memory=_memory(grid, name, names),
            training=training,
            evaluation=None if None in each.values() else sum(value or 0 for value in each.values()),
            spent=spent.get(name, 0.0) + sum(evaluated[name, e] for e in names),
            to_go=left * (training or 0) + sum(value or 0 for e, value in each.items() if not evaluated[name, e]),
            training_measured=factor is not None,
            evaluation_measured=overall is not None,
        )
    return made


def shape(grid: Grid, run: str) -> Shape | None:
    """Return the shape of a run's base model; None if it is not known yet."""
    model = grid.models[grid.runs[run].model]
    return shape_of(model, Path("results", grid.place, "models", model.name, "weights"))


def _training_hours(grid: Grid, name: str) -> float | None:
    """Return the hours of a training run at the assumed throughput; 0 for a base model, None for an unknown shape."""
    run, known = grid.runs[name], shape(grid, name)
    if not run.trains:
        return 0.0
    return hours(training_flops(known, run, grid.cost.prompt_tokens), grid.cost) if known else None


def _evaluation_hours(grid: Grid, name: str, evaluation: str) -> float | None:
    """Return the hours of an evaluation at the assumed throughput; None if base model or data are unknown."""
    run, known = grid.runs[name], shape(grid, name)
    examples = _test_examples(grid, grid.evaluation_task(name, evaluation))
    if known is None or examples is None:
        return None
    flops = evaluation_flops(known, run, grid.evaluations[evaluation], grid.cost.prompt_tokens, examples)
    return hours({"sampling": flops}, grid.cost)


def _spent_training(grid: Grid, one: RunStatus) -> float:
    """Return the hours that a training run has taken so far, summed over its GPUs or processes."""
    # The manifest of a done run has its number of processes; a running one has the GPUs that the workflow gives it.
    return one.seconds * (one.processes or grid.gpus(one.run)) / 3600


def _spent_evaluating(grid: Grid, name: str, evaluation: str) -> float:
    """Return the hours that an evaluation took; 0 if it is not done."""
    file = Path("results", grid.place, "runs", name, f"samples-{evaluation}.parquet")
    return read_rows(file, ["seconds"])["seconds"].sum().item() / 3600 if file.exists() else 0.0


def _factor(pairs: list[tuple[float, float | None]]) -> float | None:
    """Return the hours spent per estimated hour; None without a pair to compare."""
    told = [(spent, estimated) for spent, estimated in pairs if estimated]
    return sum(spent for spent, _ in told) / sum(estimated for _, estimated in told) if told else None


def _scaled(assumed: float | None, factor: float | None) -> float | None:
    return assumed if assumed is None or factor is None else assumed * factor


def _memory(grid: Grid, name: str, evaluations: list[str]) -> dict[str, float]:
    known, specs = shape(grid, name), [grid.evaluations[e] for e in evaluations]
    return memory_by_phase(grid, grid.runs[name], known, specs) if known else {}


def _test_examples(grid: Grid, task: str) -> int | None:
    """Return the number of test problems of a task; None if neither its data nor any setting tells."""
    # Prepared data are exact. Before that, the task's settings or `cost.test_examples` have to do.
    manifest = Path("results", grid.place, "data", task, "test", "manifest.json")
    if manifest.exists():
        return read_manifest(manifest)["rows"]["test"]
    return grid.tests[task].settings.get("test", grid.cost.test_examples.get(task))
