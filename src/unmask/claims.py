"""Claims of the papers as checks on our numbers: a difference between two policies, and a verdict.

Both policies of a seed start from the same base model and answer the same test problems, so the difference is taken
problem by problem and seed by seed, with one sampler, and averaged over lengths. Its 95 % interval is for other seeds
on other problems (`over_seeds_and_examples`). An interval over seeds alone would take the luck of the test problems,
which all seeds share, for a difference of the methods. Training metrics and diagnoses have no values by problem: there
it is over seeds.

The verdict follows from the interval alone: above zero, `supported`; below, `not supported`; else `inconclusive`. A
claim that nothing is lost has a margin in place of zero. A claim of several parts is supported only if each part is,
and not supported if any part is not (an intersection-union test: no correction is needed). Without the numbers, a claim
is `not tested`. A base model that is evaluated once is compared with every seed.
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

from unmask.config.kinds import Block, Count, Name, NonNegative, refuse
from unmask.entries import read_entries
from unmask.scores import RUN, SAMPLE, quarters, to_come
from unmask.statistics import Estimate, Grades, over_seeds, over_seeds_and_examples

# Metrics that a sample has; others are of training or a diagnosis.
BY_EXAMPLE = {"published", "strict", "nfe", "tokens"}
COLUMNS = [*RUN, "example", *SAMPLE]


class Measure(Block):
    """What is compared, and which way it should differ."""

    metric: str = Field(description="a column of the samples, or else of the training metrics or the diagnosis")
    direction: Literal["higher", "lower"] = "higher"
    margin: NonNegative = Field(default=0.0, description="what `better` may lose: for claims of `no worse`")


class Claim(Measure):
    """One entry of claims.yaml: on `task`, `better` has a better `metric` than `worse`."""

    claim: str
    note: str = Field(default="", description="what a reader of the verdict has to know")
    source: str
    experiment: Name
    task: Name
    better: str = Field(description="method or method/variant; then @surrogate for `kl`, or @sampler")
    worse: str
    also: list[Measure] = Field(default=[], description="further parts, for which the claim has to hold too")
    sampler: Name | None = Field(default=None, description="the step mode; needed unless both policies name theirs")
    length: Literal["mean"] | Count | None = Field(default=None, description="a length, or the mean over all")
    quarter: Annotated[int, Field(ge=1, le=4)] | None = Field(
        default=None, description="of the updates, or of the denoising steps; all when absent"
    )

    @property
    def parts(self) -> list[Measure]:
        """What the claim says, one by one."""
        return [Measure(metric=self.metric, direction=self.direction, margin=self.margin), *self.also]

    @model_validator(mode="after")
    def _one_step_mode_and_length(self) -> Claim:
        """A metric of samples is of one sampler, and of one length or their mean; others are of neither."""
        measured = {part.metric in BY_EXAMPLE for part in self.parts}
        if len(measured) > 1:
            raise refuse("metrics of samples and of training cannot be parts of one claim; make two")
        named = bool(self.sampler) or ("@" in self.better and "@" in self.worse)
        if measured == {True} and not (named and self.length):
            raise refuse(f"{self.metric} needs `sampler` and `length`: name one step mode, and a length or `mean`")
        if measured == {False} and (self.sampler or self.length):
            raise refuse(f"{self.metric} has no sampler and no length; remove them")
        return self


@dataclass(frozen=True)
class Finding:
    """A claim with what we measured: for each part the differences (better − worse) and the effect, their mean."""

    claim: Claim
    verdict: str
    differences: tuple[pd.DataFrame, ...] = ()  # [seeds, test problems], or [seeds, 1] for a metric without problems
    effects: tuple[Estimate, ...] = ()
    base_once: bool = False  # the base model has one evaluation, which every seed is compared with

    @property
    def size(self) -> str:
        """`3 × 128` seeds and problems, or `3`."""
        seeds, problems = self.differences[0].shape
        return f"{seeds} × {problems}" if self.claim.metric in BY_EXAMPLE else f"{seeds}"


def read(path: Path) -> list[Claim]:
    """The claims of a file. Raises InputError that names each wrong entry."""
    entries = read_entries(path, Claim, lambda i, entry: f"claim {i}")
    return [Claim(**entry) for entry in entries]


def check(claim: Claim, samples: pd.DataFrame | None, metrics: pd.DataFrame | None = None) -> Finding:
    """Test one claim on an experiment's samples (or diagnosis) and training metrics."""
    columns = [part.metric for part in claim.parts]
    frame = next((f for f in (samples, metrics) if f is not None and set(columns) <= set(f)), None)
    if frame is None:
        return Finding(claim, "not tested")
    bases = frame[(frame["method"] == "base") & (frame["task"] == claim.task)]
    once = not bases.empty and bases["seed"].nunique() == 1 and not to_come(bases)
    differences, shared = [], False
    for part in claim.parts:
        better, worse = (values(frame, claim, part.metric, who) for who in (claim.better, claim.worse))
        better, one = _for_seeds_of(worse, better, once and _method(claim.better) == "base")
        worse, other = _for_seeds_of(better, worse, once and _method(claim.worse) == "base")
        difference = (better - worse).dropna(how="all").dropna(axis=1)
        if difference.empty:
            return Finding(claim, "not tested")
        differences.append(_pooled(difference, frame) if part.metric == "published" else difference)
        shared = one or other
    return judged(claim, differences, shared)


def judged(claim: Claim, differences: Sequence[pd.DataFrame], base_once: bool = False) -> Finding:
    """The verdict that follows from the differences of each part."""
    effects = tuple(_estimate(one.to_numpy()) for one in differences)
    verdicts = [_verdict(part, *effect.interval()) for part, effect in zip(claim.parts, effects, strict=True)]
    return Finding(claim, _joined(verdicts), tuple(differences), effects, base_once)


def _pooled(difference: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Differences whose mean is that of pooled cells, as papers count Sudoku: Σ right / Σ cells over all boards.

    The error of this ratio is that of the mean of `right − ratio · cells` over boards, since other boards would have
    other numbers of cells. Where every problem counts one point, the differences stay as they are.
    """
    if "points" not in frame:
        return difference
    points = frame.groupby("example")["points"].first().reindex(difference.columns)
    weight = points / points.mean()
    ratio = (difference * weight).to_numpy().mean()
    return (difference - ratio) * weight + ratio


def _estimate(values: Grades) -> Estimate:
    """The mean of differences [seeds, problems]; of one seed nothing is known about others."""
    if values.shape[1] == 1:
        return over_seeds(values[:, 0])
    return over_seeds_and_examples([values]) if len(values) > 1 else Estimate(float(values.mean()), ())


def _for_seeds_of(others: pd.DataFrame, mine: pd.DataFrame, once: bool) -> tuple[pd.DataFrame, bool]:
    """A policy's values, those of a run that was made `once` for each seed of the other; and whether they had to be."""
    if not once or mine.empty or others.index.isin(mine.index).all():
        return mine, False
    return pd.DataFrame([mine.iloc[0]] * len(others), index=others.index), True


def _method(who: str) -> str:
    return re.split("[@/]", who)[0]


def _verdict(part: Measure, low: float, high: float) -> str:
    worst, best = (low, high) if part.direction == "higher" else (-high, -low)
    if worst > -part.margin:
        return "supported"
    return "not supported" if best < -part.margin else "inconclusive"


def _joined(verdicts: list[str]) -> str:
    """The verdict on a claim from those on its parts."""
    if "not supported" in verdicts:
        return "not supported"
    return "supported" if set(verdicts) == {"supported"} else "inconclusive"


def values(frame: pd.DataFrame, claim: Claim, metric: str, who: str) -> pd.DataFrame:
    """The metric of one policy on the claim's task, [seeds, examples]: means over lengths.

    [seeds, 1] where there are no examples; steps of a diagnosis weigh as many as their tokens. Empty where the frame
    has no such policy.
    """
    policy, _, part = who.partition("@")
    method, _, variant = policy.partition("/")
    wanted: dict[str, Any] = {"task": claim.task, "method": method, "variant": variant or "default"}
    wanted |= {"sampler": claim.sampler} if claim.sampler else {}
    wanted |= {"surrogate" if "surrogate" in frame else "sampler": part} if part else {}
    wanted |= {"length": claim.length} if isinstance(claim.length, int) else {}
    for key, value in wanted.items():
        frame = frame[frame[key] == value] if key in frame else frame.iloc[:0]
    if claim.quarter:
        frame = frame[_quarters(frame) == claim.quarter]
    if metric in BY_EXAMPLE and "example" in frame:
        return frame.pivot_table(index="seed", columns="example", values=metric)
    weight = frame["tokens"] if "surrogate" in frame else pd.Series(1.0, index=frame.index)
    known = weight.where(frame[metric].notna())
    sums = pd.DataFrame({"sum": frame[metric] * known, "weight": known}).groupby(frame["seed"]).sum()
    return (sums["sum"] / sums["weight"]).replace([np.inf, -np.inf], np.nan).to_frame()


def _quarters(frame: pd.DataFrame) -> pd.Series:
    """1 to 4 for each row: updates count from 1, denoising steps from 0; samples have none."""
    if "step" not in frame:
        return pd.Series(0, index=frame.index)
    return quarters(frame, first=0 if "surrogate" in frame else 1)
