"""Experiments: the runs that answer a question, how they are evaluated, and the figures drawn from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unmask.config.schema.types import Count, Distinct, Name, Names, NonNegative, Positive, Section, refuse


class Evaluation(Section):
    """Evaluation protocol of a policy; temperature 0 is greedy decoding."""

    samplers: Names = Field(description="names under `samplers`; each decodes all test problems")
    temperature: NonNegative = Field(description="sampling temperature; 0 is greedy")
    rows_per_batch: Count = Field(
        description="examples that a process decodes at once; also the size of the shards that processes divide. "
        "Changes no random draw"
    )
    mask_padding: bool = Field(default=True, description="hide left padding from attention; d1 and DMPO do not")
    samples_per_problem: Count = Field(
        default=1,
        description="responses to each problem; with several, tables have pass@k and how many right answers differ",
    )
    lengths: Literal["all", "training"] = Field(
        default="all", description="generation lengths: all of the scale, or only that of the rollouts of training"
    )

    @model_validator(mode="after")
    def _samples_differ(self) -> Evaluation:
        if self.samples_per_problem > 1 and self.temperature == 0:
            raise refuse("samples_per_problem > 1 needs a temperature above 0: greedy samples are alike")
        return self


class Diagnosis(Section):
    """Comparison of likelihood surrogates with the policy itself, per denoising step, on the policy's own responses."""

    sampler: Name = Field(description="must commit one token per step")
    temperature: Positive = Field(description="sampling temperature of the responses")
    examples: Count = Field(description="test examples, one response each")


Axes = dict[str, Annotated[list[Any], Field(min_length=1), Distinct]]  # setting -> values


class Experiment(Section):
    """One question with the runs that answer it, their evaluation (or diagnosis), and the figures drawn from them."""

    question: str = Field(description="what the experiment is to answer; the title of its tables")
    methods: Names = Field(description="names under `methods`")
    tasks: Names | None = Field(default=None, description="default: all tasks of the scale")
    grid: Axes = Field(
        default={}, description="setting, of the methods or of the tasks' reward -> values; all combinations are run"
    )
    equal_updates: bool = Field(
        default=False, description="keep the total number of updates: more per buffer means fewer buffers, rounded up"
    )
    model: Name | Names | None = Field(
        default=None,
        description="key of the scale's `models`, or several, to repeat all runs; default: the scale's `model`",
    )
    transfer: bool = Field(default=False, description="evaluate each policy on all tasks of the experiment")
    evaluation: Name | None = Field(default=None, description="a name under `evaluations`")
    diagnosis: Name | None = Field(default=None, description="a name under `diagnoses`, instead of an evaluation")
    rows: Literal["methods", "samplers"] = Field(default="methods", description="rows of its tables")
    figures: Annotated[list[Name], Distinct] = Field(
        default=[], description="functions listed in `src/unmask/analysis/figures/__init__.py`"
    )
    section: Literal["main", "methods", "ablations", "samplers", "diagnostics"] = Field(
        default="ablations", description="section of the report"
    )

    apart: bool = Field(default=False, description="run only when requested by name, not by the target `everything`")

    @property
    def model_keys(self) -> list[str]:
        """Keys of the scale's `models`; empty for the scale's `model`."""
        return [self.model] if isinstance(self.model, str) else self.model or []

    @model_validator(mode="after")
    def _one_kind_of_evaluation(self) -> Experiment:
        if (self.evaluation is None) == (self.diagnosis is None):
            raise refuse("set exactly one of evaluation and diagnosis")
        if self.transfer and self.evaluation is None:
            raise refuse("transfer needs an evaluation; a diagnosis uses the run's own task")
        return self
