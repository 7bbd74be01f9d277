"""Fidelities and scales: overrides of the general values, and the size and cost of the runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from unmask.config.schema.experiments import Axes
from unmask.config.schema.methods import ByTask
from unmask.config.schema.samplers import Sampler
from unmask.config.schema.tuning import Tuning
from unmask.config.schema.types import Count, Distinct, Name, Names, Positive, Section, Values, Whole

Seeds = Annotated[list[Whole], Field(min_length=1), Distinct]


class Overrides(Section):
    """Overrides of the general values, common to fidelities and scales."""

    training: Values = Field(default={}, description="overrides of `training`")
    methods: dict[Name, ByTask] = Field(default={}, description="overrides of `methods`")
    task_settings: dict[Name, Values] = Field(default={}, description="overrides of `tasks`")
    evaluations: dict[Name, Values] = Field(default={}, description="overrides of `evaluations`")


class Hardware(Section):
    """Assumptions of `plan` about hardware and throughput; not settings of a run, so changing one repeats no run."""

    gpu_memory: Positive | None = Field(
        default=None, description="GB (10^9 bytes) per GPU; a run that needs more is refused. None: there is no GPU"
    )
    gpus: Count = Field(
        default=1, description="at most, per training run; a run uses a number that divides its prompts"
    )
    gpus_per_node: Count = Field(default=8, description="a training run with more GPUs takes several nodes")
    peak_tflops: Positive = Field(description="of a GPU, dense, in the dtype of the weights; or of a CPU core")
    training_utilisation: Annotated[float, Field(gt=0, le=1)] = Field(description="share of the peak: scoring, updates")
    decoding_utilisation: Annotated[float, Field(gt=0, le=1)] = Field(description="share of the peak while sampling")
    prompt_tokens: Count = Field(description="length of a long prompt")
    job_memory: Count = Field(
        default=2, description="GB of node memory per process, plus once for the job; doubled at a retry"
    )
    training_hours: Positive = Field(default=0.5, description="time limit of a training job; the next one resumes")
    evaluation_hours: Positive = Field(default=0.5, description="time limit of any other job at its first attempt")
    test_examples: dict[Name, Count] = Field(default={}, description="for tasks whose settings do not fix the number")


class ExperimentChange(Section):
    """Changes of an experiment at one scale; None keeps the experiment's own value, or the scale's seeds."""

    methods: Names | None = Field(default=None, description="methods of the experiment")
    tasks: Names | None = Field(default=None, description="tasks of the experiment")
    grid: Axes | None = Field(default=None, description="setting -> values")
    seeds: Seeds | None = Field(default=None, description="seeds of the experiment")
    apart: bool | None = Field(default=None, description="whether `everything` leaves it out at this scale")


class Scale(Overrides):
    """Size at which all experiments run: model, tasks, seeds, lengths and overrides."""

    model: Name = Field(description="a name under `models`: the base model")
    models: dict[Name, Name] = Field(default={}, description="experiment's `model` -> base model at this scale")
    tasks: Names = Field(description="tasks of experiments that name none")
    experiment_changes: dict[Name, ExperimentChange] = Field(
        default={},
        description="experiment -> methods, tasks or grid that replace its own at this scale, to save time",
    )
    samplers: dict[Name, Sampler] = Field(default={}, description="replacements of blocks under `samplers`")
    seeds: Seeds = Field(description="of the runs of every experiment; statistics are over seeds")
    block_length: Count = Field(description="tokens per block of semi-autoregressive decoding")
    lengths: Annotated[list[Count], Distinct] = Field(
        min_length=1, description="generation lengths of evaluations, multiples of block_length"
    )
    experiments: Names = Field(description="experiments of the target `all`")
    tuning: Tuning | None = Field(
        default=None,
        description="candidates of the target `tune`, and of a target for each further sweep; absent: nothing is tuned",
    )
    exact_toy: Values = Field(default={}, description="overrides of `exact_toy`")
    cost: Hardware = Field(description="assumptions of `plan`")
    runtime: Values = Field(default={}, description="overrides of `runtime`")
