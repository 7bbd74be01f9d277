"""Disk space taken by the checkpoints of a training run. Torch-free, for `plan`."""

from __future__ import annotations

from unmask.config.schema.training import Training

BYTES = 4  # per number: trained parameters are float32
AT_ONCE = 3  # checkpoints on disk: two that are kept, and one while it is being written


def checkpoint_bytes(trained: int, training: Training) -> dict[str, int]:
    """Return the bytes of each checkpoint file for `trained` parameters; the small buffer of rollouts is left out."""
    # AdamW keeps two moments per parameter.
    one = BYTES * trained
    return {
        "parameters": one,
        "optimizer": 2 * one,
        "reference": one,
        "best": one if training.validate_every else 0,
    }


def most_checkpoint_bytes(trained: int, training: Training) -> int:
    """Return the peak bytes that the checkpoints of a run take on disk."""
    sizes = checkpoint_bytes(trained, training)
    # Hard links share one file, so a reference that never changes is stored once for all checkpoints.
    reference = sizes.pop("reference")
    references = AT_ONCE if training.reference_sync else 1
    return AT_ONCE * sum(sizes.values()) + references * reference
