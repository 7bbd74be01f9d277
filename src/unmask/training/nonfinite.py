"""Skipped updates: those with NaN or infinity in loss or gradient. Too many in a row stop the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask.common.errors import InputError

MOST_SKIPPED = 5  # in a row; then the run stops
SPOILT = "spoilt"  # subfolder of the checkpoints that holds the state at the stop


def skipped_in_a_row(metrics: list[dict[str, Any]]) -> int:
    """Return the number of consecutive skipped updates at the end of `metrics`."""
    count = 0
    for row in reversed(metrics):
        if not row.get("skipped"):
            break
        count += 1
    return count


def given_up(run: str, step: int, folder: Path) -> InputError:
    """Return the error for too many skipped updates in a row; `folder` is that of the checkpoints."""
    state = folder / SPOILT / f"step-{step:06d}"
    return InputError(
        f"{run}: {MOST_SKIPPED} updates in a row, the last of them update {step}, had NaN or infinity in "
        f"the loss or the gradient and were skipped. Inspect the batch, {state / 'buffer.safetensors'}: if its rewards "
        f"and log-probabilities are finite, lower learning_rate in config.yaml. {state / 'state.json'} has the metrics "
        "of all updates."
    )
