"""Released checkpoints of a scale: those whose base model it uses, with the paths and digests of their evaluations."""

from __future__ import annotations

from unmask.config.grid.grid import Grid, ReleasedCheckpoint
from unmask.config.schema import Config
from unmask.config.schema.checkpoints import HubCheckpoint, LocalCheckpoint, place_of
from unmask.config.schema.models import HubModel
from unmask.config.spec_file import joined
from unmask.config.specs import CheckpointSpec, ModelSpec


def add_checkpoints(grid: Grid, config: Config) -> None:
    """Add the released checkpoints of the scale in use to the grid, and base models that no run has.

    A checkpoint belongs to a scale that uses its base model, because the scale's lengths and blocks are for that model.
    """
    scale = config.scales[config.scale]
    used = {scale.model, *scale.models.values()}
    for name, checkpoint in config.checkpoints.items():
        if checkpoint.base in used:
            base = config.models[checkpoint.base]
            model = grid.models.setdefault(checkpoint.base, ModelSpec(checkpoint.base, base.source, base))
            grid.checkpoints[name] = _released(config, name, checkpoint, model)


def _released(
    config: Config, name: str, checkpoint: HubCheckpoint | LocalCheckpoint, model: ModelSpec
) -> ReleasedCheckpoint:
    base = model.settings
    training = config.training_at_scale
    spec = CheckpointSpec(
        name=name,
        place=place_of(checkpoint),
        kind=checkpoint.kind,
        model=checkpoint.base,
        dtype=training.dtype,
        quantisation=training.quantisation,
        repository=base.repository if isinstance(base, HubModel) else None,
        inputs={"model": model.digest},
    )
    return ReleasedCheckpoint(
        spec=spec,
        method=checkpoint.method,
        tasks=checkpoint.tasks,
        evaluation=checkpoint.evaluation,
        apart=checkpoint.apart,
        printed=checkpoint.printed,
    )


def folder(grid: Grid, name: str) -> str:
    """Return the folder of a checkpoint's results."""
    return f"{grid.root}/checkpoints/{name}"


def samples(grid: Grid, name: str) -> list[str]:
    """Return the paths of a checkpoint's samples, one file per task."""
    return [f"{folder(grid, name)}/{task}/samples.parquet" for task in grid.checkpoints[name].tasks]


def evaluated(grid: Grid, name: str, task: str) -> str:
    """Return the digest of everything that affects a checkpoint's samples on a task."""
    one = grid.checkpoints[name]
    return joined(one.spec.digest, grid.evaluations[one.evaluation].digest, grid.tests[task].digest)


def in_catalogue(grid: Grid) -> list[str]:
    """Return the checkpoints of the target `checkpoints`: all except those marked `apart`."""
    return [name for name, one in grid.checkpoints.items() if not one.apart]
