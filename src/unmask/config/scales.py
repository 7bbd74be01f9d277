"""Fidelities and scales: which general values they replace, and the size and price of the work."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from unmask.config.experiments import Axes
from unmask.config.kinds import Block, Count, Distinct, Name, Names, Positive, Whole
from unmask.config.methods import ByTask
from unmask.config.samplers import Sampler


class Overrides(Block):
    """Values that replace the general ones."""

    training: dict[str, Any] = Field(default={}, description="overrides of `training`")
    methods: dict[Name, ByTask] = Field(default={}, description="overrides of `methods`")
    task_settings: dict[Name, dict[str, Any]] = Field(default={}, description="overrides of `tasks`")
    evaluations: dict[Name, dict[str, Any]] = Field(default={}, description="overrides of `evaluations`")


class Cost(Block):
    """What `plan` reckons with, beside the model: no setting of a run, so a change repeats none."""

    gpu_memory: Positive | None = Field(
        default=None, description="GB (10^9 bytes) of a GPU; a run that needs more is refused. None: there is no GPU"
    )
    gpus: Count = Field(default=1, description="of a training at most; a run takes those that share its prompts evenly")
    gpus_per_node: Count = Field(default=8, description="a training on more of them takes several nodes")
    peak_tflops: Positive = Field(description="of a GPU, dense, in the type of the weights; or of the processor")
    training_utilisation: Annotated[float, Field(gt=0, le=1)] = Field(description="share of the peak: scoring, updates")
    decoding_utilisation: Annotated[float, Field(gt=0, le=1)] = Field(description="share of the peak while sampling")
    prompt_tokens: Count = Field(description="of a long prompt")
    job_memory: Count = Field(
        default=2, description="GB of a node for each process of a job, and once more for the job; twice at a retry"
    )
    training_hours: Positive = Field(default=0.5, description="time limit of a training job, which resumes after it")
    evaluation_hours: Positive = Field(default=0.5, description="of any other job at its first attempt")
    test_examples: dict[Name, Count] = Field(default={}, description="of tasks whose settings do not say how many")


class ExperimentChange(Block):
    """What replaces an experiment's own."""

    methods: Names | None = None
    tasks: Names | None = None
    grid: Axes | None = None


class Scale(Overrides):
    """The size at which all experiments run."""

    model: Name
    models: dict[Name, Name] = Field(default={}, description="what experiments with a `model` of their own start from")
    tasks: Names = Field(description="of experiments that name none")
    experiment_changes: dict[Name, ExperimentChange] = Field(
        default={},
        description="experiment -> what it has at this scale in place of its own: as much as there is time for",
    )
    samplers: dict[Name, Sampler] = Field(default={}, description="in place of those under `samplers`")
    seeds: Annotated[list[Whole], Distinct] = Field(min_length=1)
    block_length: Count = Field(description="tokens of a block of semi-autoregressive decoding")
    lengths: Annotated[list[Count], Distinct] = Field(min_length=1, description="at evaluation, multiples of the block")
    experiments: Names = Field(description="what the target `all` makes")
    exact_toy: dict[str, Any] = Field(default={}, description="overrides of `exact_toy`")
    cost: Cost
    runtime: dict[str, Any] = Field(default={}, description="overrides of `runtime`")
