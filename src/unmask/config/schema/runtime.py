"""Runtime settings: they affect no result and are part of no spec, so changing one repeats no run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unmask.config.schema.types import Distinct, NonNegative, Section


class Runtime(Section):
    """Settings of how runs are carried out."""

    # A setting belongs here only if the weights are equal to the last bit whatever its value, which a test must show.
    # `micro_batch_size`, `prompts_per_decode_batch` and `rows_per_batch` change rounding, the first also dropout.

    checkpoint_minutes: NonNegative = Field(
        description="minutes between two checkpoints of a training run; 0: after every update"
    )
    overwrite_above: NonNegative = Field(
        description="GPU-hours; finished runs that took more are trained again only with `--config overwrite=true`"
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="recompute activations inside a layer in the backward pass instead of storing them: less memory, "
        "and one more forward pass for each gradient",
    )
    sandbox: Literal["namespaces", "rlimits"] = Field(
        default="namespaces",
        description="isolation of programs that a policy writes: namespaces of their own, or, where a machine allows "
        "none, limits only (docs/code_tasks.md says what these do not guarantee)",
    )
    trackers: Annotated[list[Literal["tensorboard", "wandb"]], Distinct] = Field(
        default=[],
        description="where training also logs its metrics while it runs (docs/trackers_and_hub.md)",
    )
