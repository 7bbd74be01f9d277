"""Claims of the papers, tested on our numbers: a difference between two policies, and a verdict.

Both policies of a seed start from the same base model and answer the same test problems, so differences are paired by
seed and by problem, with one sampler, and averaged over lengths. The 95 % interval generalises to other seeds and other
problems (`over_seeds_and_examples`); an interval over seeds only would mistake the luck of the test problems, which all
seeds share, for a difference between the methods. Training metrics and diagnoses have no values per problem: their
interval is over seeds.

The verdict follows from the interval: above zero `supported`, below `not supported`, else `inconclusive`. A claim that
nothing is lost has minus its margin in place of zero. A claim of several parts is supported if every part is, and not
supported if any part is not (an intersection-union test, which needs no correction). Without numbers a claim is
`not tested`. A base model that is evaluated once is compared with every seed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from unmask.analysis.scores import RUN, SAMPLE, quarters, to_come
from unmask.analysis.statistics import Estimate, Grades, over_seeds, over_seeds_and_examples
from unmask.analysis.yaml_entries import read_entries
from unmask.config.schema.types import Count, Name, NonNegative, Section, refuse

# Metrics of samples, with a value per test problem; all others are of training or of a diagnosis.
BY_EXAMPLE = {"published", "strict", "nfe", "tokens"}
COLUMNS = [*RUN, "example", *SAMPLE]


class Measure(Section):
    """Metric to compare, and the direction in which it should differ."""

    metric: str = Field(description="a column of the samples, or else of the training metrics or the diagnosis")
    direction: Literal["higher", "lower"] = "higher"
    margin: NonNegative = Field(default=0.0, description="how much `better` may lose, for claims of no loss")


class Claim(Measure):
    """Entry of claims.yaml: on `task`, `better` has a better `metric` than `worse`."""

    claim: str
    note: str = Field(default="", description="what readers of the verdict need to know")
    source: str
    experiment: Name
    task: Name
    better: str = Field(description="method or method/variant; then @surrogate for `kl`, or @sampler")
    worse: str
    also: list[Measure] = Field(default=[], description="further parts, which have to hold too")
    sampler: Name | None = Field(default=None, description="the step mode; needed unless both policies name theirs")
    length: Literal["mean"] | Count | None = Field(default=None, description="a length, or the mean over all")
    quarter: Annotated[int, Field(ge=1, le=4)] | None = Field(
        default=None, description="of the updates, or of the denoising steps; all when absent"
    )

    @property
    def parts(self) -> list[Measure]:
        """Parts of the claim, the main one first."""
        return [Measure(metric=self.metric, direction=self.direction, margin=self.margin), *self.also]

    @model_validator(mode="after")
    def _one_step_mode_and_length(self) -> Claim:
        """Require a sampler and a length, or `mean`, for metrics of samples, and neither for others."""
        # All parts are read from one frame, and samples and training metrics are different frames.
        measured = {part.metric in BY_EXAMPLE for part in self.parts}
        if len(measured) > 1:
            raise refuse("metrics of samples and of training cannot be parts of one claim; make two")

        # A verdict is about one step mode: it never averages over samplers.
        named = bool(self.sampler) or ("@" in self.better and "@" in self.worse)
        if measured == {True} and not (named and self.length):
            raise refuse(f"{self.metric} needs `sampler` and `length`: name one step mode, and a length or `mean`")
        if measured == {False} and (self.sampler or self.length):
            raise refuse(f"{self.metric} has no sampler and no length; remove them")
        return self


@dataclass(frozen=True)
class Finding:
    """Claim with our measurements: for each part the differences (better − worse) and the effect, their mean."""

    claim: Claim
    verdict: str
    differences: tuple[pd.DataFrame, ...] = ()  # [seeds, test problems], or [seeds, 1] for metrics without problems
    effects: tuple[Estimate, ...] = ()
    base_once: bool = False  # every seed is compared with the only evaluation of the base model

    @property
    def size(self) -> str:
        """Seeds and problems, `3 × 128`; or seeds, `3`."""
        seeds, problems = self.differences[0].shape
        return f"{seeds} × {problems}" if self.claim.metric in BY_EXAMPLE else f"{seeds}"


def read(path: Path) -> list[Claim]:
    """Read the claims of a YAML file. Raises InputError that names each wrong entry."""
    entries = read_entries(path, Claim, lambda i, entry: f"claim {i}")
    return [Claim(**entry) for entry in entries]


def check(claim: Claim, samples: pd.DataFrame | None, metrics: pd.DataFrame | None = None) -> Finding:
    """Test a claim on an experiment's samples (or its diagnosis) and training metrics."""
    columns = [part.metric for part in claim.parts]
    frame = next((f for f in (samples, metrics) if f is not None and set(columns) <= set(f)), None)
    if frame is None:
        return Finding(claim, "not tested")

    # One evaluation of the base model serves all seeds, unless evaluations of it are still to come.
    bases = frame[(frame["method"] == "base") & (frame["task"] == claim.task)]
    once = not bases.empty and bases["seed"].nunique() == 1 and not to_come(bases)

    differences, shared = [], False
    for part in claim.parts:
        better, worse = (values(frame, claim, part.metric, who) for who in (claim.better, claim.worse))
        better, one = _for_seeds_of(worse, better, once and _method(claim.better) == "base")
        worse, other = _for_seeds_of(better, worse, once and _method(claim.worse) == "base")
        # Pandas aligns seeds and problems. Keep the seeds of both policies and the problems that all of these answered.
        difference = (better - worse).dropna(how="all").dropna(axis=1)
        if difference.empty:
            return Finding(claim, "not tested")
        # Only the published protocol pools cells; `strict` is a plain mean over problems.
        differences.append(_pooled(difference, frame) if part.metric == "published" else difference)
        shared = one or other
    return judged(claim, differences, shared)


def judged(claim: Claim, differences: Sequence[pd.DataFrame], base_once: bool = False) -> Finding:
    """Return the finding that follows from the differences of each part, each [seeds, test problems]."""
    effects = tuple(_estimate(one.to_numpy()) for one in differences)
    verdicts = [_verdict(part, *effect.interval()) for part, effect in zip(claim.parts, effects, strict=True)]
    return Finding(claim, _joined(verdicts), tuple(differences), effects, base_once)


def _pooled(difference: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return differences whose mean is that of pooled cells, as papers score Sudoku: Σ right / Σ cells over all boards.

    The standard error of this ratio is that of the mean of `right − ratio · cells` over boards, since other boards
    would have other numbers of cells. Where every problem counts one point, the differences stay unchanged.
    """
    if "points" not in frame:
        return difference
    points = frame.groupby("example")["points"].first().reindex(difference.columns)
    weight = points / points.mean()
    ratio = (difference * weight).to_numpy().mean()
    # The mean of this is the ratio itself, and its spread over boards gives the error of the ratio.
    return (difference - ratio) * weight + ratio


def _estimate(values: Grades) -> Estimate:
    """Estimate the mean of differences [seeds, problems]; it has no error where there is a single seed."""
    if values.shape[1] == 1:
        return over_seeds(values[:, 0])
    return over_seeds_and_examples([values]) if len(values) > 1 else Estimate(float(values.mean()), ())


def _for_seeds_of(others: pd.DataFrame, mine: pd.DataFrame, once: bool) -> tuple[pd.DataFrame, bool]:
    """Repeat the values of a policy evaluated `once` for every seed of the other; return them, and if it was needed."""
    if not once or mine.empty or others.index.isin(mine.index).all():
        return mine, False
    return pd.DataFrame([mine.iloc[0]] * len(others), index=others.index), True


def _method(who: str) -> str:
    return re.split("[@/]", who)[0]


def _verdict(part: Measure, low: float, high: float) -> str:
    # Flip the interval where lower is better, so that larger is better below.
    worst, best = (low, high) if part.direction == "higher" else (-high, -low)
    if worst > -part.margin:
        return "supported"
    return "not supported" if best < -part.margin else "inconclusive"


def _joined(verdicts: list[str]) -> str:
    """Combine the verdicts on the parts of a claim."""
    if "not supported" in verdicts:
        return "not supported"
    return "supported" if set(verdicts) == {"supported"} else "inconclusive"


def values(frame: pd.DataFrame, claim: Claim, metric: str, who: str) -> pd.DataFrame:
    """Return the metric of one policy on the claim's task [seeds, examples], averaged over lengths.

    Training metrics and diagnoses have no examples and give [seeds, 1]; steps of a diagnosis are weighted by their
    tokens. Empty if the frame has no such policy.
    """
    policy, _, part = who.partition("@")
    method, _, variant = policy.partition("/")
    wanted: dict[str, Any] = {"task": claim.task, "method": method, "variant": variant or "default"}
    wanted |= {"sampler": claim.sampler} if claim.sampler else {}
    # In a diagnosis the part after the @ is a surrogate, in samples a sampler.
    wanted |= {"surrogate" if "surrogate" in frame else "sampler": part} if part else {}
    wanted |= {"length": claim.length} if isinstance(claim.length, int) else {}
    for key, value in wanted.items():
        frame = frame[frame[key] == value] if key in frame else frame.iloc[:0]
    if claim.quarter:
        frame = frame[_quarters(frame) == claim.quarter]
    if metric in BY_EXAMPLE and "example" in frame:
        return frame.pivot_table(index="seed", columns="example", values=metric)

    # Rows without a value count in neither sum; a seed without any becomes NaN (0 / 0).
    weight = frame["tokens"] if "surrogate" in frame else pd.Series(1.0, index=frame.index)
    known = weight.where(frame[metric].notna())
    sums = pd.DataFrame({"sum": frame[metric] * known, "weight": known}).groupby(frame["seed"]).sum()
    return (sums["sum"] / sums["weight"]).replace([np.inf, -np.inf], np.nan).to_frame()


def _quarters(frame: pd.DataFrame) -> pd.Series:
    """Return the quarter, 1 to 4, of each row. Updates count from 1, denoising steps from 0; samples get 0."""
    if "step" not in frame:
        return pd.Series(0, index=frame.index)
    return quarters(frame, first=0 if "surrogate" in frame else 1)
