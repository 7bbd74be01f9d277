"""The experiment of the exact laboratory."""

from __future__ import annotations

from typing import Annotated, Any, Required

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from unmask.config.kinds import Block, Count, Distinct, Name, NonNegative, Positive, Whole, refuse
from unmask.config.methods import ByTask


class Curve(TypedDict, total=False):
    """A curve of the exact laboratory; what else it holds are settings of the method's file."""

    __pydantic_config__ = ByTask.__pydantic_config__  # type: ignore[misc]
    method: Required[Name]


class ExactToy(Block):
    """The experiment of the exact laboratory: distribution matching against reward maximisation, enumerated."""

    vocabulary: Count = Field(description="V, tokens")
    length: Count = Field(description="L, positions; there are V^L responses")
    modes: Count = Field(description="random responses that earn 1; all others earn 0")
    alpha: Positive = Field(description="temperature of the target p*, which the curves are held against")
    reference_scale: NonNegative = Field(description="standard deviation of the reference's logits; 0 is uniform")
    seeds: Annotated[list[Whole], Distinct] = Field(
        min_length=2, description="each draws its own reference, modes and training"
    )
    samples_per_buffer: Count
    group_sizes: Annotated[list[Count], Distinct] = Field(min_length=1, description="G; they divide samples_per_buffer")
    updates: Count
    updates_per_buffer: Count
    learning_rate: Positive = Field(description="at the beginning; it falls linearly to zero")
    measure_every: Count = Field(description="updates between two enumerations of p_θ")
    methods: dict[Name, dict[str, Any]] = Field(description="overrides of `methods`")
    curves: dict[Name, Curve] = Field(description="name -> method and what it changes")

    @model_validator(mode="after")
    def _counts_fit(self) -> ExactToy:
        for size in self.group_sizes:
            if self.samples_per_buffer % size:
                raise refuse(f"samples_per_buffer {self.samples_per_buffer} is not a multiple of group size {size}")
        if self.modes > self.vocabulary ** min(self.length, 64):  # of a larger power nothing is asked but its size
            raise refuse(f"modes {self.modes} is more than vocabulary**length, {self.vocabulary**self.length}")
        return self
