"""Entries of claims.yaml: what a claim compares, by which metric, and within which margin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from unmask.analysis.metric_names import COLLAPSED, COLLAPSED_TIME, DISTINCT, ENTROPY, GAIN, PAIRS
from unmask.analysis.yaml_entries import read_entries
from unmask.config.schema.types import Count, Name, NonNegative, Positive, Section, refuse

OWN = "own question"  # how the source of a claim begins that no paper makes
# Of evaluations with 16 samples per problem, see diversity.py.
SHARES_OF_SEVERAL = {"pass_at_1", "pass_at_16", "gain_at_16", PAIRS}
OF_SEVERAL = SHARES_OF_SEVERAL | {DISTINCT, ENTROPY}
# Metrics of samples, with a value per test problem; all others are of training or of a diagnosis.
BY_EXAMPLE = {"published", "strict", "nfe", "tokens", *OF_SEVERAL}
OF_SAMPLES = BY_EXAMPLE | {GAIN}
BINARY = {COLLAPSED}  # of each run 0 or 1
# Few runs never show that two shares of collapses are equal, so these have no margin of equivalence of their own.
RARE = BINARY | {COLLAPSED_TIME}
# Between 0 and 1, printed in points.
SHARES = {"published", "strict", "accuracy", "validation", "clamped", "clipped", "partial_credit", GAIN, COLLAPSED_TIME}
SHARES |= BINARY | SHARES_OF_SEVERAL
EQUIVALENCE = 0.02  # margin of shares, fixed before the runs


class Measure(Section):
    """Metric to compare, and the direction in which it should differ."""

    metric: str = Field(description="a column of the samples, or else of the training metrics or the diagnosis")
    direction: Literal["higher", "lower"] = "higher"
    margin: NonNegative = Field(default=0.0, description="how much `better` may lose, for claims of no loss")
    equivalence: Positive | None = Field(
        default=None,
        description="differences below this count as none; default: 2 points for shares, else nothing is `equivalent`",
    )

    @property
    def equal_within(self) -> float | None:
        """Margin of equivalence; None if the measure cannot be `equivalent`."""
        if self.margin:
            return None
        return self.equivalence or (EQUIVALENCE if self.metric in SHARES - RARE else None)


class Claim(Measure):
    """Entry of claims.yaml: on `task`, `better` has a better `metric` than `worse`."""

    claim: str
    note: str = Field(default="", description="what readers of the verdict need to know")
    source: str
    experiment: Name
    task: Name
    better: str = Field(description="method or method/variant; then @surrogate for `kl`, or @sampler")
    worse: str | float = Field(description="the same, or a number that the metric is compared with")
    also: list[Measure] = Field(default=[], description="further parts, which have to hold too")
    sampler: Name | None = Field(default=None, description="the step mode; needed unless both policies name theirs")
    length: Literal["mean"] | Count | None = Field(default=None, description="a length, or the mean over all")
    equal: Literal["responses", "flops"] = Field(
        default="responses",
        description="of training metrics: the whole of training, or up to the FLOPs of the cheaper policy",
    )
    inner: Count | None = Field(
        default=None, description="of training metrics: only this update of each buffer, from 1; all when absent"
    )
    quarter: Annotated[int, Field(ge=1, le=4)] | None = Field(
        default=None,
        description="of the updates, or of the denoising steps; all when absent",
    )

    @property
    def parts(self) -> list[Measure]:
        """Parts of the claim, the main one first."""
        main = Measure(
            metric=self.metric,
            direction=self.direction,
            margin=self.margin,
            equivalence=self.equivalence,
        )
        return [main, *self.also]

    @property
    def key(self) -> str:
        """Name of the claim's numbers, such as `main sudoku dmpo base sampler=top1 length=mean metric=published`.

        Text, source, margins and directions are not part of it: they can change without a change of the numbers.
        """
        words = [self.experiment, self.task, self.better, str(self.worse)]
        for name in ("sampler", "length", "inner", "quarter"):
            value = getattr(self, name)
            if value is not None:
                words.append(f"{name}={value}")
        if self.equal != "responses":
            words.append(f"equal={self.equal}")
        metrics = "+".join(part.metric for part in self.parts)
        return " ".join([*words, f"metric={metrics}"])

    @property
    def paper(self) -> str:
        """Paper that makes the claim: its source without table, section and version, or the subject of our own."""
        if self.source.startswith(OWN):
            return self.source
        name, _, place = self.source.partition(", arXiv ")
        number, _, _ = place.partition(",")
        return f"{name}, arXiv {number.partition('v')[0]}" if place else name

    @model_validator(mode="after")
    def _one_step_mode_and_length(self) -> Claim:
        """Require a sampler and a length, or `mean`, for metrics of samples, and neither for others."""
        # All parts are read from one frame, and samples and training metrics are different frames.
        of_samples = [part.metric in OF_SAMPLES for part in self.parts]
        if any(of_samples) and not all(of_samples):
            raise refuse("metrics of samples and of training cannot be parts of one claim; make two")

        # A number has no grades of problems, and no pair of runs.
        is_paired = {part.metric for part in self.parts} & (BY_EXAMPLE | BINARY)
        if is_paired and isinstance(self.worse, float):
            raise refuse(f"{', '.join(sorted(is_paired))}: compared with those of another policy; name one as `worse`")

        # A verdict is about one step mode: it never averages over samplers.
        both_name_theirs = all("@" in str(who) for who in (self.better, self.worse))
        sampler_is_known = self.sampler is not None or both_name_theirs
        complete = sampler_is_known and self.length is not None
        if all(of_samples) and not complete:
            raise refuse(f"{self.metric} needs `sampler` and `length`: name one step mode, and a length or `mean`")
        if any(of_samples) and self.equal == "flops":
            raise refuse(f"{self.metric} is of samples, which cost no training; remove `equal`")
        if any(of_samples) and self.inner:
            raise refuse(f"{self.metric} is of samples, which have no updates; remove `inner`")
        if not any(of_samples) and (self.sampler or self.length):
            raise refuse(f"{self.metric} has no sampler and no length; remove them")
        return self


def read(path: Path) -> list[Claim]:
    """Read the claims of a YAML file. Raises InputError that names each wrong entry."""
    entries = read_entries(path, Claim, lambda i, entry: f"claim {i}")
    return [Claim(**entry) for entry in entries]
