"""Specs: frozen settings of one job, such as a run, base model or dataset. Written to spec.yaml, read by its step.

A spec holds every value that decides the result, so any step can be repeated by hand from its spec.yaml, and changing
one hyper-parameter changes only the specs that contain it. The last line is the digest of the values.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import yaml

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError

NUMBERS = ("dtype", "quantisation")  # settings that decide the number format of the base model's weights


@dataclass(frozen=True)
class Spec:
    """Base class of specs: digest, reading and writing."""

    def values(self) -> dict[str, Any]:
        """Return the fields that differ from their default."""
        # A new field with a default thus leaves the digests of existing specs, and so finished runs, unchanged.
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def to_json(self) -> str:
        """Return a canonical one-line JSON form: equal specs give equal lines."""
        return json.dumps(self.values(), sort_keys=True)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that identify this spec. Files count by their hash, not by their path."""
        content = json.dumps(_without_paths(self.values()), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def write(self, path: Path) -> None:
        """Write spec.yaml atomically."""
        with atomic_write(path) as temporary:
            values = self.values() | {"digest": self.digest}
            temporary.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a spec.yaml. Raises InputError that names the file and the wrong keys, or the digest if it differs."""
        # A wrong digest is refused, because results are filed under it.
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            written = values.pop("digest", None) if isinstance(values, dict) else None
            spec = cls(**values)
            digest = spec.digest
        except (OSError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{path}: not a {cls.__name__}: {error}. Delete it and run snakemake again.") from error
        if digest != written:
            raise InputError(
                f"{path}: its digest is {written!r}, but its values have {digest!r}: it was damaged or edited. Delete "
                "it and run snakemake again, or write the digest of the values there if you edited it on purpose."
            )
        return spec


def _without_paths(value: Any) -> Any:
    """Return a value without the paths of files that are identified by a hash next to them."""
    if isinstance(value, list):
        return [_without_paths(one) for one in value]
    if not isinstance(value, dict):
        return value
    known = "sha256" in value
    return {key: _without_paths(one) for key, one in value.items() if not (known and key == "path")}


def digest_of(path: Path) -> str | None:
    """Return the digest in a spec.yaml without parsing it; None if there is none."""
    # PyYAML quotes a digest that looks like a number, hence the optional quotes.
    try:
        found = re.search(r"^digest: '?([0-9a-f]{12})'?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return found[1] if found else None


def joined(*digests: str) -> str:
    """Combine several digests into one; their order matters."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class DataSpec(Spec):
    """Dataset of a task: training and validation examples, or test examples; only the settings that decide them."""

    task: str
    settings: dict[str, Any]
    test: bool = False

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
    source: str
    settings: dict[str, Any]
    task: str | None = None
    task_settings: dict[str, Any] | None = None
    seed: int | None = None
    block_length: int | None = None
    lengths: list[int] | None = None

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """Settings of each task that a model trained from scratch learns, by name; empty for a published model."""
        settings = self.task_settings or {}
        return {self.task: settings} if self.task else dict(sorted(settings.items()))

    @property
    def pretraining(self) -> dict[str, dict[str, Any]]:
        """Pretraining settings of each task, for a model trained from scratch."""
        return {self.task: self.settings["pretraining"]} if self.task else self.settings["pretraining"]


@dataclass(frozen=True)
class RunSpec(Spec):
    """Training run: method × task × variant × seed. `name` is its path, which also names a non-default base model.

    `algorithm` is the file in methods/ that the method runs; `start_from` is the run whose adapter it continues, or
    merges before it trains a fresh one (`merge_start`). `inputs` holds the digests of the specs of the base model and
    of that run, so the digest covers everything that decides the run. A run of the base model has only the settings
    that decide its evaluations: number format of the weights, and how problems are posed.
    """

    name: str
    method: str
    algorithm: str
    start_from: str | None
    task: str
    variant: str
    seed: int
    model: str
    training: dict[str, Any]
    method_settings: dict[str, Any]
    task_settings: dict[str, Any]
    sampler: dict[str, Any]
    block_length: int
    corpus: bool = False  # the task is a corpus: the run is evaluated on other tasks only
    inputs: dict[str, str] | None = None

    @property
    def trains(self) -> bool:
        """True if the run trains something; False for the base model."""
        return self.algorithm != "base"

    @property
    def processes(self) -> int:
        """Largest usable world size: each process needs at least one prompt of a buffer."""
        return int(self.training["prompts_per_buffer"])

    def shared_by(self, gpus: int) -> int:
        """Return the world size on `gpus` GPUs; processes get equal shares of the prompts, other GPUs stay idle."""
        return math.gcd(max(1, gpus), self.processes)

    @property
    def numbers(self) -> dict[str, str]:
        """Number format of the base model's weights: dtype and quantisation."""
        return {key: self.training[key] for key in NUMBERS}

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
class ToySpec(Spec):
    """Exact toy experiment; a curve has the keys `method`, a file in methods/, and `settings`."""

    settings: dict[str, Any]
    curves: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class EvaluationSpec(Spec):
    """Evaluation of a run's policy: every length with every sampler, on the run's own task or on another."""

    name: str
    samplers: dict[str, dict[str, Any]]
    lengths: list[int]
    block_length: int
    temperature: float
    rows_per_batch: int
    task: str | None = None
    task_settings: dict[str, Any] | None = None
    mask_padding: bool = True


@dataclass(frozen=True)
class DiagnosisSpec(Spec):
    """Diagnosis: settings for comparing a run's surrogates with its policy."""

    name: str
    sampler: dict[str, Any]
    temperature: float
    examples: int
    generation_length: int
    block_length: int
    rows_per_forward: int
    mask_padding: bool
