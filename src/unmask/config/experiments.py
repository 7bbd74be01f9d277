"""Experiments: which runs a question asks for, how they are examined, and what is drawn from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unmask.config.kinds import Block, Count, Distinct, Name, Names, NonNegative, Positive, refuse


class Evaluation(Block):
    """How a policy is examined: greedy unless a temperature is given."""

    samplers: Names
    temperature: NonNegative
    rows_per_batch: Count = Field(
        description="examples decoded together, from one stream of random numbers; processes share them by so many"
    )
    mask_padding: bool = Field(default=True, description="hide left padding from attention; d1 and DMPO do not")


class Diagnosis(Block):
    """How far a run's surrogates are from its policy: on responses of the policy itself, step by step."""

    sampler: Name = Field(description="one that commits one token a step")
    temperature: Positive
    examples: Count = Field(description="test examples, one response each")


Axes = dict[str, Annotated[list[Any], Field(min_length=1), Distinct]]  # setting -> values; all combinations are run


class Experiment(Block):
    """A question of a paper: a set of runs, how they are examined, and what is drawn from them."""

    question: str
    methods: Names
    tasks: Names | None = Field(default=None, description="all of the scale's when absent")
    grid: Axes = Field(default={}, description="setting -> values; all combinations are run")
    equal_updates: bool = Field(
        default=False, description="a run with more updates on a buffer gets fewer buffers, rounded up"
    )
    model: Name | None = Field(default=None, description="a name under the scale's `models`, in place of its `model`")
    transfer: bool = Field(default=False, description="what is trained on one of its tasks is examined on all of them")
    evaluation: Name | None = Field(default=None, description="how its runs are examined")
    diagnosis: Name | None = Field(default=None, description="or what else is measured on them")
    rows: Literal["methods", "samplers"] = Field(default="methods", description="of its tables")
    figures: Annotated[list[Name], Distinct] = Field(
        default=[], description="functions that src/unmask/figures.py lists"
    )
    section: Literal["main", "methods", "ablations", "samplers", "diagnostics"] = Field(
        default="ablations", description="of the report"
    )

    apart: bool = Field(default=False, description="made when it is asked for by name, not by the target `everything`")

    @model_validator(mode="after")
    def _one_examination(self) -> Experiment:
        if (self.evaluation is None) == (self.diagnosis is None):
            raise refuse("needs one of evaluation and diagnosis")
        if self.transfer and self.evaluation is None:
            raise refuse("transfer needs an evaluation; a diagnosis is made on the run's own task")
        return self
