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


@dataclass(frozen=True)
class JobHours:
    """Hours of a training run or an evaluation: spent so far, and in all at the assumed throughput, if known."""

    spent: float
    assumed: float | None

    def scaled(self, factor: float | None) -> float | None:
        """Return the hours in all, calibrated by `factor` if there is one."""
        if self.assumed is None or factor is None:
            return self.assumed
        return self.assumed * factor


def estimates(
    grid: Grid,
    evaluations: dict[str, list[str]],
    found: dict[str, RunStatus],
) -> dict[str, Estimate]:
    """Return the estimate of each run in `evaluations`, by name.

    `evaluations` lists the evaluations of each run, `found` has the progress of the runs that train.
    """
    training = {}
    evaluating = {}
    for name, names in evaluations.items():
        spent = _spent_training(grid, found.get(name))
        training[name] = JobHours(spent, _training_hours(grid, name))
        evaluating[name] = [_of_evaluation(grid, name, evaluation) for evaluation in names]

    # One factor per method: seeds and tasks of a method share it, each applied to its own number of operations.
    done: dict[str, list[JobHours]] = defaultdict(list)
    for name, status in found.items():
        # A run whose manifest cannot be read is stale too, but has step 0 and no time to learn from.
        if status.state in DONE and status.step == status.updates:
            done[grid.runs[name].method].append(training[name])
    by_method = {method: _factor(runs) for method, runs in done.items()}

    # Evaluations only decode, whatever method trained the policy, so that one factor serves all of them.
    begun = []
    for jobs in evaluating.values():
        begun += [job for job in jobs if job.spent]
    overall = _factor(begun)

    made = {}
    for name, names in evaluations.items():
        factor = by_method.get(grid.runs[name].method)
        hours_training = training[name].scaled(factor)
        hours_evaluating = [job.scaled(overall) for job in evaluating[name]]

        # Base models are not in `found`: they have no training left.
        left = 0.0
        if name in found:
            left = 1 - found[name].step / found[name].updates
        left_of_training = left * (hours_training or 0)
        not_begun = [job.scaled(overall) or 0 for job in evaluating[name] if not job.spent]
        spent_evaluating = sum(job.spent for job in evaluating[name])

        made[name] = Estimate(
            run=name,
            memory=_memory(grid, name, names),
            training=hours_training,
            evaluation=_sum_if_known(hours_evaluating),
            spent=training[name].spent + spent_evaluating,
            to_go=left_of_training + sum(not_begun),
            training_measured=factor is not None,
            evaluation_measured=overall is not None,
        )
    return made


def _sum_if_known(values: list[float | None]) -> float | None:
    """Return the sum; None if a value is unknown."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def shape(grid: Grid, run: str) -> Shape | None:
    """Return the shape of a run's base model; None if it is not known yet."""
    model = grid.models[grid.runs[run].model]
    weights = Path("results", grid.place, "models", model.name, "weights")
    return shape_of(model, weights)


def _training_hours(grid: Grid, name: str) -> float | None:
    """Return the hours of a training run at the assumed throughput; 0 for a base model, None for an unknown shape."""
    run = grid.runs[name]
    if not run.trains:
        return 0.0
    known = shape(grid, name)
    if known is None:
        return None
    flops = training_flops(known, run, grid.cost.prompt_tokens, grid.runtime.activation_checkpointing)
    return hours(flops, grid.cost)


def _evaluation_hours(grid: Grid, name: str, evaluation: str) -> float | None:
    """Return the hours of an evaluation at the assumed throughput; None if base model or data are unknown."""
    known = shape(grid, name)
    examples = test_examples(grid, grid.evaluation_task(name, evaluation))
    if known is None or examples is None:
        return None
    flops = evaluation_flops(
        known,
        grid.runs[name],
        grid.evaluations[evaluation],
        grid.cost.prompt_tokens,
        min(examples, grid.evaluations[evaluation].limit or examples),
    )
    return hours({"sampling": flops}, grid.cost)


def _spent_training(grid: Grid, status: RunStatus | None) -> float:
    """Return the hours that a training run has taken so far, summed over its GPUs or processes; 0 for a base model."""
    if status is None:
        return 0.0
    # The manifest of a done run has its number of processes; a running one has the GPUs that the workflow gives it.
    processes = status.processes or grid.gpus(status.run)
    return status.seconds * processes / 3600


def _of_evaluation(grid: Grid, name: str, evaluation: str) -> JobHours:
    spent = _spent_evaluating(grid, name, evaluation)
    return JobHours(spent, _evaluation_hours(grid, name, evaluation))


def _spent_evaluating(grid: Grid, name: str, evaluation: str) -> float:
    """Return the hours that an evaluation took; 0 if it is not done."""
    file = Path("results", grid.place, "runs", name, f"samples-{evaluation}.parquet")
    if not file.exists():
        return 0.0
    seconds: float = read_rows(file, ["seconds"])["seconds"].sum().item()
    return seconds / 3600


def _factor(jobs: list[JobHours]) -> float | None:
    """Return the hours spent per assumed hour; None without a job to compare."""
    spent = 0.0
    assumed = 0.0
    for job in jobs:
        if job.assumed:
            spent += job.spent
            assumed += job.assumed
    if assumed == 0:
        return None
    return spent / assumed


def _memory(grid: Grid, name: str, evaluations: list[str]) -> dict[str, float]:
    known = shape(grid, name)
    if known is None:
        return {}
    specs = [grid.evaluations[evaluation] for evaluation in evaluations]
    return memory_by_phase(grid, grid.runs[name], known, specs)


def test_examples(grid: Grid, task: str) -> int | None:
    """Return the number of test problems of a task; None if neither its data nor any setting tells."""
    # Prepared data are exact. Before that, the task's settings or `cost.test_examples` have to do.
    manifest = Path("results", grid.place, "data", task, "test", "manifest.json")
    if manifest.exists():
        return read_manifest(manifest)["rows"]["test"]
    return grid.tests[task].test_examples or grid.cost.test_examples.get(task)
