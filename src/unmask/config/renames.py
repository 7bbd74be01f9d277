"""Settings that were renamed or moved, for error messages and for the migration of finished runs."""

from __future__ import annotations

from typing import Any

RENAMED = {  # old key of `training` -> new key
    "rows_per_forward": "micro_batch_size",
    "prompts_at_once": "prompts_per_decode_batch",
    "gradient_clip": "max_grad_norm",
    "warmup": "warmup_ratio",
}
TO_RUNTIME = ("activation_checkpointing",)  # were keys of `training`


def old_names(values: dict[str, Any]) -> list[str]:
    """Return the old names in the spec of a run, which has settings in `training`, or of a diagnosis."""
    training = values.get("training")
    block = training if isinstance(training, dict) else values
    return [key for key in (*RENAMED, *TO_RUNTIME) if key in block]


def current_name(key: str) -> str:
    """Return the name that a setting has now."""
    return RENAMED.get(key, key)
