"""Settings of the experiment `surrogates`, whose log-ratios are enumerated."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from unmask.config.schema.types import AsWritten, Count, Distinct, NonNegative, Positive, Whole, refuse

MOST = 50_000  # responses times orders, all of which are scored


class Surrogates(AsWritten):
    """Policies on a table of logits, and how far the new ones are from the old one."""

    vocabulary: Count = Field(description="V, tokens")
    length: Count = Field(description="L, positions; there are V^L responses and L! orders")
    block: Count = Field(description="tokens of a block of the blockwise masks; divides `length`")
    modes: Count = Field(description="number of random responses with reward 1; all others have reward 0")
    reference_scale: NonNegative = Field(description="standard deviation of the old policy's logits; 0 is uniform")
    seeds: Annotated[list[Whole], Distinct] = Field(
        min_length=2, description="each draws its own old policy, modes and direction"
    )
    directions: Annotated[list[Literal["reward", "random"]], Distinct] = Field(
        min_length=1, description="how the new policy differs: along the gradient of the expected reward, or by noise"
    )
    distances: Annotated[list[Positive], Distinct] = Field(
        min_length=1, description="KL(old ‖ new) in nats; verdicts are at the middle one"
    )

    @model_validator(mode="after")
    def _can_be_enumerated(self) -> Surrogates:
        if self.length % self.block:
            raise refuse(f"block {self.block} does not divide length {self.length}")
        # The length is capped, so that a mistyped one computes no huge power.
        scored = self.vocabulary ** min(self.length, 64) * math.factorial(min(self.length, 64))
        if scored > MOST:
            raise refuse(f"vocabulary**length · length! is {scored}, more than the {MOST} that are enumerated")
        if self.modes >= self.vocabulary**self.length:
            raise refuse(f"modes {self.modes} is not below vocabulary**length, {self.vocabulary**self.length}")
        return self
