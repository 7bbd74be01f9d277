"""Specs: frozen settings of one job, such as a run, base model or dataset. Written to spec.yaml, read by its step.

A spec holds every value that decides the result, so any step can be repeated by hand from its spec.yaml, and changing
one hyper-parameter changes only the specs that contain it. The last line is the digest of the values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from unmask.config.schema.checkpoints import Place, place_from
from unmask.config.schema.exact_toy import ToySettings
from unmask.config.schema.models import BaseModelSettings, base_model_from
from unmask.config.schema.samplers import Sampler, sampler_from
from unmask.config.schema.surrogates import Surrogates
from unmask.config.schema.training import Training, training_from
from unmask.config.schema.types import Source, Subset, Values, prompt_path, source_from, subset_from
from unmask.config.spec_file import Spec, typed_block


@dataclass(frozen=True)
class DataSpec(Spec):
    """Dataset of a task: training and validation examples, or test examples; only the settings that decide them."""

    task: str
    settings: Values  # of the task, with the hashes of files
    test: bool = False

    @property
    def test_source(self) -> Source | None:
        """Where the test problems come from; None for training data and for tasks without this setting."""
        found = self.settings.get("test_source")
        return None if found is None else source_from(found)

    @property
    def test_subset(self) -> Subset | None:
        """Which of the test problems are used; None for training data and for tasks without this setting."""
        found = self.settings.get("test_subset")
        return None if found is None else subset_from(found)

    @property
    def test_examples(self) -> int | None:
        """Number of test problems; None if the settings do not fix it."""
        return self.settings.get("test")

    @property
    def evaluation_prompt(self) -> str:
        """Path of the prompt file of evaluations; empty for our own wording."""
        return prompt_path(self.settings.get("evaluation_prompt_file", ""))

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that are made from this spec."""
        return ("test",) if self.test else ("train", "validation")


@dataclass(frozen=True)
class ModelSpec(Spec):
    """Base model: published, or trained from scratch for one seed and one or several tasks.

    With several tasks, `task` is None, and `task_settings` and `settings["pretraining"]` have a block for each.
    """

    name: str
    source: str  # scratch, hub or local
    settings: BaseModelSettings
    task: str | None = None
    task_settings: Values | None = None
    seed: int | None = None
    block_length: int | None = None
    lengths: list[int] | None = None
    pretrained: str | None = None  # hash of the project's own weights, to be used in place of training

    @classmethod
    def of(cls, values: Values) -> ModelSpec:
        """Return the base model with these values, its settings typed."""
        spec = cls(**values)
        settings = {"source": spec.source, **values["settings"]}
        if spec.task:
            settings |= {"pretraining": {spec.task: settings["pretraining"]}}
        return replace(spec, settings=typed_block("settings", base_model_from, settings))

    def values(self) -> Values:
        """Return the fields that differ from their default; of the settings those that do."""
        # A new setting with a default thus leaves the digests of existing models unchanged.
        # The model's seed is a field of its own: which runs share the model does not affect its weights. So is the hash
        # of the project's own weights, where there are some.
        settings = self.settings.model_dump(exclude={"source", "seed", "pretrained"}, exclude_defaults=True)
        if self.task:
            settings |= {"pretraining": settings["pretraining"][self.task]}
        return super().values() | {"settings": settings}

    @property
    def recipe(self) -> str:
        """Digest of what trains the weights, whether they are trained here or come with the project."""
        return replace(self, pretrained=None).digest

    @property
    def tasks(self) -> dict[str, Values]:
        """Settings of each task that a model trained from scratch learns, by name; empty for a published model."""
        settings = self.task_settings or {}
        return {self.task: settings} if self.task else dict(sorted(settings.items()))


@dataclass(frozen=True)
class RunSpec(Spec):
    """Training run: method × task × variant × seed. `name` is its path, which also names a non-default base model.

    `algorithm` is the file in methods/ that the method runs; `start_from` is the run whose adapter it continues, or
    merges before it trains a fresh one (`merge_start`). `inputs` holds the digests of the specs of the base model and
    of that run, so the digest covers everything that decides the run. A run of the base model has only the settings
    that decide its evaluations: number format of the weights, and how problems are posed.
    """

    readers: ClassVar = {
        "training": training_from,
        "sampler": lambda values: sampler_from(values) if values else None,
    }

    name: str
    method: str
    algorithm: str
    start_from: str | None
    task: str
    variant: str
    seed: int
    model: str
    training: Training  # of the base model: only its number format
    method_settings: Values
    task_settings: Values
    sampler: Sampler | None  # of rollouts; None for the base model
    block_length: int
    corpus: bool = False  # the task is a corpus: the run is evaluated on other tasks only
    inputs: dict[str, str] | None = None

    def values(self) -> Values:
        """Return the fields that differ from their default; the base model has a sampler without settings."""
        found = super().values()
        return found if self.sampler else found | {"sampler": {}}

    @property
    def rollout_sampler(self) -> Sampler:
        """Sampler of rollouts. Raises ValueError for the base model, which has none."""
        if self.sampler is None:
            raise ValueError(f"{self.name} trains nothing, so it has no sampler of rollouts")
        return self.sampler

    @property
    def trains(self) -> bool:
        """True if the run trains something; False for the base model."""
        return self.algorithm != "base"

    @property
    def processes(self) -> int:
        """Largest usable world size: each process needs at least one prompt of a buffer."""
        return self.training.prompts_per_buffer

    def shared_by(self, gpus: int) -> int:
        """Return the world size on `gpus` GPUs; processes get equal shares of the prompts, other GPUs stay idle."""
        return math.gcd(max(1, gpus), self.processes)

    @property
    def numbers(self) -> dict[str, str]:
        """Number format of the base model's weights: dtype and quantisation."""
        return {"dtype": self.training.dtype, "quantisation": self.training.quantisation}

    def for_evaluation(self, evaluation: EvaluationSpec) -> RunSpec:
        """Return the run as an evaluation sees it: on the evaluation's own task, if any, in a variant that says so."""
        if evaluation.task is None or evaluation.task_settings is None:
            return self
        # A corpus is only ever evaluated on other tasks, so its variant need not say so.
        if self.corpus:
            return replace(self, task=evaluation.task, task_settings=evaluation.task_settings)
        parts = [] if self.variant == "default" else [self.variant]
        variant = "+".join([*parts, f"trained_on~{self.task}"])
        return replace(self, task=evaluation.task, task_settings=evaluation.task_settings, variant=variant)


@dataclass(frozen=True)
class CurveSpec:
    """Curve of the exact toy: a file in methods/, and the settings of its method."""

    method: str
    settings: Values


@dataclass(frozen=True)
class ToySpec(Spec):
    """Exact toy experiment, with its curves by name."""

    readers: ClassVar = {
        "settings": lambda values: ToySettings(**values),
        "curves": lambda blocks: {name: CurveSpec(**block) for name, block in blocks.items()},
    }

    settings: ToySettings
    curves: dict[str, CurveSpec]


@dataclass(frozen=True)
class SurrogatesSpec(Spec):
    """Experiment `surrogates`."""

    readers: ClassVar = {"settings": lambda values: Surrogates(**values)}

    settings: Surrogates


@dataclass(frozen=True)
class EvaluationSpec(Spec):
    """Evaluation of a run's policy: every length with every sampler, on the run's own task or on another."""

    readers: ClassVar = {"samplers": lambda blocks: {name: sampler_from(block) for name, block in blocks.items()}}

    name: str
    samplers: dict[str, Sampler]
    lengths: list[int]
    block_length: int
    temperature: float
    rows_per_batch: int
    task: str | None = None
    task_settings: Values | None = None
    mask_padding: bool = True
    samples_per_problem: int = 1
    limit: int = 0  # test problems, the first ones; 0: all


@dataclass(frozen=True)
class CheckpointSpec(Spec):
    """Released checkpoint: where it is, and on which base model in which number format it is evaluated.

    `inputs` holds the digest of the base model's spec. Printed numbers are no part of it: they change no sample.
    """

    readers: ClassVar = {"place": place_from}

    name: str
    place: Place
    kind: str  # adapter or full
    model: str  # the base model
    dtype: str
    quantisation: str
    repository: str | None = None  # of the base model, if that is on the hub
    inputs: dict[str, str] | None = None


@dataclass(frozen=True)
class DiagnosisSpec(Spec):
    """Diagnosis: settings for comparing a run's surrogates with its policy."""

    readers: ClassVar = {"sampler": sampler_from}

    name: str
    sampler: Sampler
    temperature: float
    examples: int
    generation_length: int
    block_length: int
    micro_batch_size: int
    mask_padding: bool
