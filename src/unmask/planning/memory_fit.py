"""Check of every run against the memory of a GPU, with the config keys to change where it does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unmask.config.grid.grid import Grid
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.models.shapes import Shape
from unmask.planning.memory import evaluation_memory, total, training_memory

EVALUATION = "evaluation "  # prefix of the phase of an evaluation


def memory_by_phase(grid: Grid, run: RunSpec, shape: Shape, evaluations: list[EvaluationSpec]) -> dict[str, float]:
    """Return the GB of a GPU that each phase of a run's training, and each of its evaluations, needs."""
    training = training_memory(shape, run, grid.cost, grid.gpus(run.name)) if run.trains else {}
    evaluating = {EVALUATION + e.name: evaluation_memory(shape, run, e, grid.cost) for e in evaluations}
    return {name: total(parts) for name, parts in (training | evaluating).items()}


def misfits(grid: Grid, run: RunSpec, shape: Shape, evaluations: list[EvaluationSpec]) -> list[str]:
    """Explain why a run's training or largest evaluation does not fit, with changes of config.yaml that make it fit."""
    limit, needed = grid.cost.gpu_memory, memory_by_phase(grid, run, shape, evaluations)
    said = []
    # Training and evaluations are fixed by different settings: report the worst phase of each.
    for evaluating in (False, True):
        phases = [phase for phase in needed if phase.startswith(EVALUATION) == evaluating]
        worst = max(phases, key=lambda phase: needed[phase], default=None)
        if limit is None or worst is None or needed[worst] <= limit:
            continue
        arguments = (grid, limit, run, shape, worst)

        ways = _smaller_batches(*arguments, evaluations) if evaluating else _smaller_training(*arguments)
        end = f". Set {', or '.join(ways)}." if ways else ": use a GPU with more memory, or a smaller model."
        what = f"{needed[worst]:.1f} GB ({worst}) do not fit into the {limit:g} GB of"
        said.append(f"{what} scales.{grid.scale}.cost.gpu_memory{end}")
    return said


def _smaller_batches(
    grid: Grid, limit: float, run: RunSpec, shape: Shape, phase: str, evaluations: list[EvaluationSpec]
) -> list[str]:
    """Return the largest `rows_per_batch` with which an evaluation fits, as a line for config.yaml, or nothing."""
    (spec,) = (e for e in evaluations if phase == EVALUATION + e.name)
    for rows in range(spec.rows_per_batch - 1, 0, -1):
        needed = total(evaluation_memory(shape, run, replace(spec, rows_per_batch=rows), grid.cost))
        if needed <= limit:
            return [f"evaluations.{spec.name}.rows_per_batch: {rows} ({needed:.1f} GB)"]
    return []


def _smaller_training(grid: Grid, limit: float, run: RunSpec, shape: Shape, phase: str) -> list[str]:
    """Return single changes with which this phase of the training fits, else the first pair that does.

    Of `rows_per_forward`, the largest value that fits is named.
    """
    rows: list[dict[str, Any]] = [{"rows_per_forward": n} for n in range(run.training["rows_per_forward"] - 1, 0, -1)]
    checkpointing: list[dict[str, Any]] = (
        [] if run.training["activation_checkpointing"] else [{"activation_checkpointing": True}]
    )
    fewer: list[dict[str, Any]] = [{"prompts_at_once": 1}] if run.training["prompts_at_once"] > 1 else []
    # Rollouts depend on how many prompts are decoded together, the other phases on rows and checkpointing.
    alternatives = [fewer] if phase == "rollouts" else [rows, checkpointing]
    ways = [way for changes in alternatives for way in _first(grid, limit, run, shape, phase, changes)]

    both = [one | other for one in checkpointing for other in rows]
    return ways or ([] if phase == "rollouts" else _first(grid, limit, run, shape, phase, both))


def _first(
    grid: Grid, limit: float, run: RunSpec, shape: Shape, phase: str, changes: list[dict[str, Any]]
) -> list[str]:
    """Return the first of `changes` with which the phase fits, as a line for config.yaml; empty if none does."""
    for change in changes:
        changed = replace(run, training=run.training | change)
        needed = memory_by_phase(grid, changed, shape, [])[phase]
        if needed <= limit:
            # Only `by_task` and grids override this layer, so the advice takes effect wherever the value came from.
            where = f"scales.{grid.scale}.methods.{run.method}"
            words = [f"{where}.{key}: {str(value).lower()}" for key, value in change.items()]
            return [f"{' and '.join(words)} ({needed:.1f} GB)"]
    return []
