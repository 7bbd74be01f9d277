"""Disk space taken by the checkpoints of a training run. Torch-free, for `plan`."""

from __future__ import annotations

from unmask.config.schema.training import Training

BYTES = 4  # per number: trained parameters are float32
KEPT, WRITTEN = 2, 1  # checkpoints kept on disk, plus one while it is being written


def checkpoint_bytes(trained: int, training: Training) -> dict[str, int]:
    """Return the bytes of each checkpoint file for `trained` parameters; the small buffer of rollouts is left out."""
    # AdamW keeps two moments per parameter.
    one = BYTES * trained
    return {"parameters": one, "optimizer": 2 * one, "reference": one, "best": one if training.validate_every else 0}


def most_checkpoint_bytes(trained: int, training: Training) -> int:
    """Return the peak bytes that the checkpoints of a run take on disk."""
    sizes = checkpoint_bytes(trained, training)
    # Hard links share one file, so a reference that never changes is stored once for all checkpoints.
    references = KEPT + WRITTEN if training.reference_sync else 1
    changing = sum(size for name, size in sizes.items() if name != "reference")
    return (KEPT + WRITTEN) * changing + references * sizes["reference"]
