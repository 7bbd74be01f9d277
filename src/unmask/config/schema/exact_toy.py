"""Settings of the exact toy experiment, whose distributions are enumerated."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from unmask.config.schema.types import (
    AsWritten,
    Count,
    Distinct,
    Name,
    NonNegative,
    Positive,
    Section,
    Values,
    Whole,
    refuse,
)


class Curve(Section):
    """One curve of the exact toy: a method, and overrides of the settings that the method's file declares."""

    model_config = ConfigDict(extra="allow")

    method: Name = Field(description="file in `src/unmask/methods/`")

    @property
    def settings(self) -> Values:
        """Settings that the curve gives."""
        return self.model_extra or {}


class ToySettings(AsWritten):
    """Problem and training loop of the exact toy, common to all curves."""

    vocabulary: Count = Field(description="V, tokens")
    length: Count = Field(description="L, positions; there are V^L responses")
    modes: Count = Field(description="number of random responses with reward 1; all others have reward 0")
    alpha: Positive = Field(description="temperature of the target p* that every curve is compared with")
    reference_scale: NonNegative = Field(description="standard deviation of the reference's logits; 0 is uniform")
    seeds: Annotated[list[Whole], Distinct] = Field(
        min_length=2, description="each draws its own reference, modes and training randomness"
    )
    samples_per_buffer: Count = Field(description="responses in a buffer")
    group_sizes: Annotated[list[Count], Distinct] = Field(
        min_length=1, description="G; each divides samples_per_buffer"
    )
    updates: Count = Field(description="number of gradient steps")
    updates_per_buffer: Count = Field(description="gradient steps on each buffer")
    learning_rate: Positive = Field(description="initial value; decays linearly to zero")
    measure_every: Count = Field(description="updates between two enumerations of p_θ")

    @model_validator(mode="after")
    def _counts_fit(self) -> ToySettings:
        for size in self.group_sizes:
            if self.samples_per_buffer % size:
                raise refuse(f"samples_per_buffer {self.samples_per_buffer} is not a multiple of group size {size}")

        # The exponent is capped, so that a mistyped length does not compute a huge power.
        if self.modes > self.vocabulary ** min(self.length, 64):
            raise refuse(f"modes {self.modes} is more than vocabulary**length, {self.vocabulary**self.length}")
        return self


class ExactToy(ToySettings):
    """Exact toy experiment: distribution matching against reward maximisation, with every response enumerated."""

    methods: dict[Name, Values] = Field(description="overrides of `methods`")
    curves: dict[Name, Curve] = Field(description="name -> method and overrides")
