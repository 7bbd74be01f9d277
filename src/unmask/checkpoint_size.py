"""How much disk the checkpoints of a training run take. Torch-free, for `plan`."""

from __future__ import annotations

from unmask.config.training import Training

BYTES = 4  # of a number: what is trained is in float32
KEPT, WRITTEN = 2, 1  # checkpoints on the disk, and one more while it is being written


def checkpoint_bytes(trained: int, training: Training) -> dict[str, int]:
    """Bytes of a checkpoint by file, for so many `trained` parameters; the buffer of rollouts is small and left out."""
    one = BYTES * trained
    return {"parameters": one, "optimizer": 2 * one, "reference": one, "best": one if training.validate_every else 0}


def most_checkpoint_bytes(trained: int, training: Training) -> int:
    """The most that the checkpoints of a run take at a time: a reference that never changes is one file for all."""
    sizes = checkpoint_bytes(trained, training)
    references = KEPT + WRITTEN if training.reference_sync else 1
    changing = sum(size for name, size in sizes.items() if name != "reference")
    return (KEPT + WRITTEN) * changing + references * sizes["reference"]
