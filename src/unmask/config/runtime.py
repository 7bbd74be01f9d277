"""How runs are carried out: settings that decide no result and are part of no spec, so a change repeats no run."""

from __future__ import annotations

from pydantic import Field

from unmask.config.kinds import Block, NonNegative


class Runtime(Block):
    """How runs are carried out."""

    checkpoint_minutes: NonNegative = Field(
        description="minutes between two checkpoints of a training run; 0 is after every update"
    )
    overwrite_above: NonNegative = Field(
        description="GPU-hours; a finished run that took more is only trained again with `--config overwrite=true`"
    )
