"""Settings that were renamed or moved, for error messages and for the migration of finished runs."""

from __future__ import annotations

RENAMED = {  # old key of `training` -> new key
    "rows_per_forward": "micro_batch_size",
    "prompts_at_once": "prompts_per_decode_batch",
    "gradient_clip": "max_grad_norm",
    "warmup": "warmup_ratio",
}
TO_RUNTIME = ("activation_checkpointing",)  # were keys of `training`


def current_name(key: str) -> str:
    """Return the name that a setting has now."""
    return RENAMED.get(key, key)
