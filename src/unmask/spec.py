"""Frozen settings of one piece of work: a run, a base model or a dataset. Written to spec.yaml, read by its step.

A spec holds every value that decides the result, so any step repeats by hand from its spec.yaml, and a change of one
hyper-parameter changes the specs that have it and no others. The digest in its last line is that of the values.
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

from unmask.files import InputError, writing

NUMBERS = ("dtype", "quantisation")  # settings that decide how a base model's weights are held


@dataclass(frozen=True)
class Spec:
    """What all specs can do."""

    def values(self) -> dict[str, Any]:
        """The fields but for those at their default, so that a new one leaves the specs alone that do without it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def to_json(self) -> str:
        """One line, the same for equal specs."""
        return json.dumps(self.values(), sort_keys=True)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name this spec. A file counts by its hash, wherever it lies."""
        content = json.dumps(_without_paths(self.values()), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def write(self, path: Path) -> None:
        """Write spec.yaml, whole or not at all."""
        with writing(path) as temporary:
            values = self.values() | {"digest": self.digest}
            temporary.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a spec.yaml; raises InputError that names the file and the keys that are wrong, or its digest."""
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            written = values.pop("digest", None) if isinstance(values, dict) else None
            spec = cls(**values)
            digest = spec.digest
        except (OSError, TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{path}: not a {cls.__name__}: {error}. Delete it and run snakemake again.") from error
        if digest != written:
            raise InputError(
                f"{path}: its digest is {written!r}, that of its values {digest!r}: it was damaged or changed. Delete "
                "it and run snakemake again, or put the digest of the values there if you changed them yourself."
            )
        return spec


def _without_paths(value: Any) -> Any:
    """A value without the paths of files whose hashes stand beside them."""
    if isinstance(value, list):
        return [_without_paths(one) for one in value]
    if not isinstance(value, dict):
        return value
    known = "sha256" in value
    return {key: _without_paths(one) for key, one in value.items() if not (known and key == "path")}


def digest_of(path: Path) -> str | None:
    """The digest in the last line of a spec.yaml; None if there is none."""
    try:
        found = re.search(r"^digest: '?([0-9a-f]{12})'?$", path.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    return found[1] if found else None


def joined(*digests: str) -> str:
    """One digest for several, in their order."""
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class DataSpec(Spec):
    """A task's training and validation examples, or its test examples; only the settings that decide them."""

    task: str
    settings: dict[str, Any]
    test: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that are made from it."""
        return ("test",) if self.test else ("train", "validation")


@dataclass(frozen=True)
class ModelSpec(Spec):
    """A base model: made here, for one seed and one task or several, or published.

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
        """Settings of each task that a model made here learns, by name; nothing for a published one."""
        settings = self.task_settings or {}
        return {self.task: settings} if self.task else dict(sorted(settings.items()))

    @property
    def pretraining(self) -> dict[str, dict[str, Any]]:
        """How a model made here learns each of them."""
        return {self.task: self.settings["pretraining"]} if self.task else self.settings["pretraining"]


@dataclass(frozen=True)
class Run(Spec):
    """One training run: method × task × variant × seed. Its address is `name`, which also says if the model is another.

    `algorithm` is the file in methods/ that the method runs; `start_from` is the run whose adapter it continues, or
    trains a fresh one on top of (`merge_start`). `inputs` has the digests of the base model's spec and of
    that run's, so that the digest names all that decides the run. A base model has only what decides its evaluations:
    how its weights are held, and how problems are posed.
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
        """Whether the run has a training of its own; the base model has none."""
        return self.algorithm != "base"

    @property
    def processes(self) -> int:
        """The most processes that can share the training: its prompts a buffer by those decoded at once."""
        shares, rest = divmod(self.training["prompts_per_buffer"], self.training["prompts_at_once"])
        return shares if shares and not rest else 1

    def shared_by(self, gpus: int) -> int:
        """How many processes the training has on so many GPUs, each with as many prompts; the other GPUs idle."""
        return math.gcd(max(1, gpus), self.processes)

    @property
    def numbers(self) -> dict[str, str]:
        """How the base model's weights are held."""
        return {key: self.training[key] for key in NUMBERS}

    def examined_by(self, evaluation: EvaluationSpec) -> Run:
        """The run as an evaluation sees it: if that has a task of its own, on it, in a variant that says so.

        A corpus has no evaluation but those, so the variant stays.
        """
        if evaluation.task is None or evaluation.task_settings is None:
            return self
        if self.corpus:
            return replace(self, task=evaluation.task, task_settings=evaluation.task_settings)
        parts = [] if self.variant == "default" else [self.variant]
        variant = "+".join([*parts, f"trained_on~{self.task}"])
        return replace(self, task=evaluation.task, task_settings=evaluation.task_settings, variant=variant)


@dataclass(frozen=True)
class ToySpec(Spec):
    """The experiment of the exact laboratory; a curve has the keys `method`, a file in methods/, and `settings`."""

    settings: dict[str, Any]
    curves: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class EvaluationSpec(Spec):
    """How a run's policy is examined: every length with every sampler, on the run's own task or on another."""

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
    """How a run's surrogates are held against its policy."""

    name: str
    sampler: dict[str, Any]
    temperature: float
    examples: int
    generation_length: int
    block_length: int
    rows_per_forward: int
    mask_padding: bool
