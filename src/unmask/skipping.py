"""Updates with NaN or infinity in the loss or the gradient are skipped; too many in a row end the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask.files import InputError

MOST_SKIPPED = 5  # in a row; then the training stops
SPOILT = "spoilt"  # folder below that of the checkpoints for the state in which it stopped


def skipped_in_a_row(metrics: list[dict[str, Any]]) -> int:
    """How many of the last updates were skipped."""
    return next((n for n, row in enumerate(reversed(metrics)) if not row.get("skipped")), len(metrics))


def given_up(run: str, step: int, folder: Path) -> InputError:
    """What to say when too many updates in a row were skipped; `folder` is that of the checkpoints."""
    batch = folder / SPOILT / f"step-{step:06d}" / "buffer.safetensors"
    return InputError(
        f"{run}: {MOST_SKIPPED} updates in a row, the last of them update {step}, had NaN or infinity in "
        f"the loss or the gradient and were skipped. Look at the batch, {batch}: where its rewards and "
        "log-probabilities are finite, lower learning_rate in config.yaml."
    )
