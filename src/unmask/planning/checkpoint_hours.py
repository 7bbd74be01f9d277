"""Hours of the evaluations of released checkpoints, each with its base model, before they start. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unmask.common.manifest import made_of
from unmask.config.grid.checkpoints import evaluated, folder
from unmask.config.grid.grid import Grid
from unmask.models.shapes import shape_of
from unmask.planning.estimates import test_examples
from unmask.planning.flops import decoding_flops, hours

POLICIES = 2  # the checkpoint, and its base model in the same job


@dataclass(frozen=True)
class CheckpointHours:
    """Evaluation of one checkpoint on one task; hours are None where base model or problems are not known yet."""

    name: str
    task: str
    hours: float | None
    is_done: bool


def checkpoint_hours(grid: Grid, names: list[str]) -> list[CheckpointHours]:
    """Return every evaluation of these checkpoints with its hours at the throughput that `cost` assumes.

    The products of an adapter, about a twentieth of the model's, are left out: its rank is not known beforehand.
    """
    found = []
    for name in names:
        one = grid.checkpoints[name]
        model = grid.models[one.spec.model]
        shape = shape_of(model, Path(grid.root, "models", model.name, "weights"))
        for task in one.tasks:
            examples = test_examples(grid, task)
            cost = None
            if shape is not None and examples is not None:
                flops = decoding_flops(shape.body, grid.evaluations[one.evaluation], grid.cost.prompt_tokens, examples)
                cost = hours({"sampling": POLICIES * flops}, grid.cost)
            manifest = Path(folder(grid, name), task, "samples.json")
            found.append(CheckpointHours(name, task, cost, made_of(manifest) == evaluated(grid, name, task)))
    return found


def plan_lines(grid: Grid, names: list[str]) -> list[str]:
    """Return the plan of these checkpoints: a line for each task, and the hours in all and still to go."""
    unit = "GPU" if grid.cost.gpu_memory else "CPU"
    digits = 1 if grid.cost.gpu_memory else 4
    plan = checkpoint_hours(grid, names)
    lines = []
    for one in plan:
        cost = "?" if one.hours is None else f"{one.hours:.{digits}f}"
        state = "done" if one.is_done else "to do"
        lines.append(f"{one.name:24} {one.task:12} {state:6} {cost:>8} {unit}-h")
    total = sum(one.hours or 0 for one in plan)
    left = sum(one.hours or 0 for one in plan if not one.is_done)
    counted = f"{len(names)} checkpoints, each with its base model: about {total:.{digits}f} {unit}-hours in all"
    unknown = sum(one.hours is None for one in plan)
    more = f"; {unknown} not counted, whose model or test set is not known yet" if unknown else ""
    return [*lines, f"{counted}, {left:.{digits}f} to go, at the throughput assumed in scales.{grid.scale}.cost{more}"]
