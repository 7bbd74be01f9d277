"""Runtime settings: they affect no result and are part of no spec, so changing one repeats no run."""

from __future__ import annotations

from pydantic import Field

from unmask.config.schema.types import NonNegative, Section


class Runtime(Section):
    """Settings of how runs are carried out."""

    checkpoint_minutes: NonNegative = Field(
        description="minutes between two checkpoints of a training run; 0: after every update"
    )
    overwrite_above: NonNegative = Field(
        description="GPU-hours; finished runs that took more are trained again only with `--config overwrite=true`"
    )
