"""Claims of the papers, tested on our numbers: a difference between two policies, and a verdict.

Both policies of a seed start from the same base model and answer the same test problems, so differences are paired by
seed and by problem, with one sampler, and averaged over lengths. The 95 % interval generalises to other seeds and other
problems (`over_seeds_and_examples`); an interval over seeds only would mistake the luck of the test problems, which all
seeds share, for a difference between the methods. Training metrics and diagnoses have no values per problem: their
interval is over seeds. A claim may also compare a policy with a number.

The verdict follows from the interval: above zero `supported`, below `contradicted`. An interval that contains zero is
`equivalent` if the 90 % interval lies within the margin of equivalence, which is the test of two one-sided hypotheses
at 5 % (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987), and `inconclusive` otherwise. A claim that nothing is lost
has minus its margin in place of zero, and is never `equivalent`. A claim of several parts is supported if every part
is (an intersection-union test, which needs no correction), and contradicted if any of the k parts is, which Holm's
correction counts as k tests. Without numbers a claim is `not tested`. A base model that is evaluated once is compared
with every seed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from unmask.analysis.claim_entries import BINARY, BY_EXAMPLE, Claim, Measure
from unmask.analysis.collapses import with_collapses
from unmask.analysis.frames import distinct, select
from unmask.analysis.learning_speed import at_equal_flops
from unmask.analysis.metric_names import COLLAPSED, COLLAPSED_TIME, GAIN, PAIRS
from unmask.analysis.scores import RUN, SAMPLE, quarters, to_come
from unmask.analysis.selection import choices
from unmask.analysis.statistics import Estimate, Grades, holm, over_pairs, over_seeds, over_seeds_and_examples

DECIDED = ("supported", "contradicted", "equivalent")
COLUMNS = [*RUN, "example", *SAMPLE]
LEAST_SOLVED = 20  # problems that all runs have to solve twice for a claim on pairs of right answers


@dataclass(frozen=True)
class Finding:
    """Claim with our measurements: for each part the differences (better − worse) and the effect, their mean."""

    claim: Claim
    verdict: str
    differences: tuple[pd.DataFrame, ...] = ()  # [seeds, test problems], or [seeds, 1] for metrics without problems
    effects: tuple[Estimate, ...] = ()
    base_once: bool = False  # every seed is compared with the only evaluation of the base model

    @property
    def p(self) -> float:
        """Two-sided p-value: the largest of the k parts', or k times the smallest one if the verdict is `contradicted`.

        Every part has to hold for `supported`, any of them is enough for `contradicted`. NaN if a part has none.
        """
        values = []
        against = []
        for part, effect in zip(self.claim.parts, self.effects, strict=True):
            null = part.margin if part.direction == "lower" else -part.margin
            values.append(effect.p(null))
            if _verdict(part, effect) == "contradicted":
                against.append(values[-1])
        if np.isnan(values).any():
            return float("nan")
        return min(1.0, len(values) * min(against)) if against else max(values)

    @property
    def size(self) -> str:
        """Seeds and problems, `3 × 128`; or seeds, `3`."""
        seeds, problems = self.differences[0].shape
        if self.claim.metric in BY_EXAMPLE:
            return f"{seeds} × {problems}"
        return f"{seeds}"


def check(claim: Claim, samples: pd.DataFrame | None, metrics: pd.DataFrame | None = None) -> Finding:
    """Test a claim on an experiment's samples (or its diagnosis) and training metrics."""
    frame = _frame_with(claim, samples, *_derived(claim, samples, metrics), metrics)
    if frame is None:
        return Finding(claim, "not tested")

    if claim.equal == "flops":
        policies = [who for who in (claim.better, claim.worse) if isinstance(who, str)]
        frame = at_equal_flops(pd.concat([_of_policy(frame, claim, who) for who in policies]))
    bases = select(frame, method="base", task=claim.task)
    base_once = _evaluated_once(bases)
    differences = []
    repeated = False
    for part in claim.parts:
        better = values(frame, claim, part.metric, claim.better)
        if isinstance(claim.worse, float):
            worse = 0 * better + claim.worse
        else:
            worse = values(frame, claim, part.metric, claim.worse)
        if base_once and _method(claim.better) == "base":
            better, repeated = _for_seeds_of(worse, better)
        elif base_once and _method(str(claim.worse)) == "base":
            worse, repeated = _for_seeds_of(better, worse)

        # Pandas aligns seeds and problems. Keep the seeds of both policies and the problems that all of these answered.
        aligned = better - worse
        difference = aligned.dropna(how="all").dropna(axis=1)
        seeds = better.index.intersection(worse.index)
        if difference.empty or (part.metric == PAIRS and _too_few_pairs(difference, len(seeds))):
            return Finding(claim, "not tested")
        # Only the published protocol pools cells; `strict` is a plain mean over problems.
        if part.metric == "published":
            difference = _pooled(difference, select(frame, task=claim.task))
        differences.append(difference)
    return judged(claim, differences, repeated)


def _too_few_pairs(difference: pd.DataFrame, seeds: int) -> bool:
    """Return whether a run solves no problem twice, or too few problems are solved twice by all runs."""
    return len(difference) < seeds or difference.shape[1] < LEAST_SOLVED


def _frame_with(claim: Claim, *frames: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the first frame that has the metrics of all parts of a claim; None if none has."""
    columns = {part.metric for part in claim.parts}
    for frame in frames:
        if frame is not None and columns <= set(frame):
            return frame
    return None


def _derived(claim: Claim, samples: pd.DataFrame | None, metrics: pd.DataFrame | None) -> list[pd.DataFrame]:
    """Return the frame of a metric that no file has, but that follows from samples and training metrics."""
    if claim.metric == GAIN and samples is not None:
        return [choices(samples, metrics)]
    if claim.metric in (COLLAPSED, COLLAPSED_TIME) and metrics is not None:
        return [with_collapses(metrics)]
    return []


def _evaluated_once(bases: pd.DataFrame) -> bool:
    """Return True if the base model has one evaluation and none to come; it then serves all seeds."""
    return len(distinct(bases, "seed")) == 1 and not to_come(bases)


def judged(claim: Claim, differences: Sequence[pd.DataFrame], base_once: bool = False) -> Finding:
    """Return the finding that follows from the differences of each part, each [seeds, test problems]."""
    effects = []
    verdicts = []
    for part, difference in zip(claim.parts, differences, strict=True):
        effect = _estimate(difference.to_numpy(), part.metric)
        effects.append(effect)
        verdicts.append(_verdict(part, effect))
    return Finding(
        claim,
        _joined(verdicts),
        differences=tuple(differences),
        effects=tuple(effects),
        base_once=base_once,
    )


def _pooled(difference: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return differences whose mean is that of pooled cells, as papers score Sudoku: Σ right / Σ cells over all boards.

    `frame` has the samples of one task: examples are numbered from 0 in each.
    The standard error of this ratio is that of the mean of `right − ratio · cells` over boards, since other boards
    would have other numbers of cells. Where every problem counts one point, the differences stay unchanged.
    """
    if "points" not in frame:
        return difference
    by_example = frame.groupby("example")["points"].first()
    points = by_example.reindex(difference.columns)
    weight = points / points.mean()
    weighted = difference * weight
    ratio = weighted.to_numpy().mean()
    # The mean of this is the ratio itself, and its spread over boards gives the error of the ratio.
    return (difference - ratio) * weight + ratio


def _estimate(values: Grades, metric: str) -> Estimate:
    """Estimate the mean of differences [seeds, problems]; it has no error where there is a single seed."""
    if metric in BINARY and len(values) > 1:
        return over_pairs(values[:, 0])
    if values.shape[1] == 1:
        return over_seeds(values[:, 0])
    if len(values) == 1:
        return Estimate(float(values.mean()), ())
    return over_seeds_and_examples([values])


def _for_seeds_of(others: pd.DataFrame, mine: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """Repeat the values of a policy evaluated once for every seed of the other; return them, and if it was needed."""
    if mine.empty or others.index.isin(mine.index).all():
        return mine, False
    rows = [mine.iloc[0]] * len(others)
    return pd.DataFrame(rows, index=others.index), True


def _method(who: str) -> str:
    return re.split("[@/]", who)[0]


def _verdict(part: Measure, effect: Estimate) -> str:
    # Flip the interval where lower is better, so that larger is better below.
    low, high = effect.interval()
    worst, best = low, high
    if part.direction == "lower":
        worst, best = -high, -low
    if worst > -part.margin:
        return "supported"
    if best < -part.margin:
        return "contradicted"

    low, high = effect.interval(0.9)
    margin = part.equal_within
    if margin is not None and -margin < low and high < margin:
        return "equivalent"
    return "inconclusive"


def _joined(verdicts: list[str]) -> str:
    """Combine the verdicts on the parts of a claim."""
    if "contradicted" in verdicts:
        return "contradicted"
    if "inconclusive" in verdicts:
        return "inconclusive"
    # What is left is supported or equivalent: without a difference in one part, the claim does not hold.
    return "equivalent" if "equivalent" in verdicts else "supported"


def survivors(findings: Sequence[Finding], level: float = 0.05) -> list[bool | None]:
    """Return if each verdict survives Holm's correction for the number of tested claims of its paper.

    None for verdicts without a difference: `equivalent`, `inconclusive`, `not tested`.
    """
    found: list[bool | None] = [None] * len(findings)
    for paper in dict.fromkeys(one.claim.paper for one in findings):
        # A claim from one seed has effects without an error, and so no p-value.
        tested = [place for place, one in enumerate(findings) if one.claim.paper == paper and one.effects]
        family = [place for place in tested if not np.isnan(findings[place].p)]
        adjusted = holm([findings[place].p for place in family])
        for place, p in zip(family, adjusted, strict=True):
            if findings[place].verdict in ("supported", "contradicted"):
                found[place] = bool(p <= level)
    return found


def values(frame: pd.DataFrame, claim: Claim, metric: str, who: str) -> pd.DataFrame:
    """Return the metric of one policy on the claim's task [seeds, examples], averaged over lengths.

    Training metrics and diagnoses have no examples and give [seeds, 1]; steps of a diagnosis are weighted by their
    tokens. Empty if the frame has no such policy.
    """
    frame = _of_policy(frame, claim, who)
    if claim.quarter:
        frame = frame[_quarters(frame) == claim.quarter]
    if claim.inner:
        frame = frame[frame["inner"] == claim.inner]
    if metric in BY_EXAMPLE and "example" in frame:
        return frame.pivot_table(index="seed", columns="example", values=metric, dropna=False)

    weight = pd.Series(1.0, index=frame.index)
    if "surrogate" in frame:
        weight = frame["tokens"]
    # Rows without a value count in neither sum; a seed without any becomes NaN (0 / 0).
    measured = frame[metric]
    known = weight.where(measured.notna())
    weights = known.groupby(frame.seed).sum()
    sums = (measured * known).groupby(frame.seed).sum()
    mean = sums / weights
    # A metric that is infinite somewhere has no mean: NaN drops the seed, as if it had no value.
    finite = mean.replace([np.inf, -np.inf], np.nan)
    return finite.to_frame(0)


def _of_policy(frame: pd.DataFrame, claim: Claim, who: str) -> pd.DataFrame:
    """Return the rows of a policy on the claim's task, with its sampler and length; none if a column is missing."""
    policy, _, part = who.partition("@")
    method, _, variant = policy.partition("/")
    wanted: dict[str, object] = {
        "task": claim.task,
        "method": method,
        "variant": variant or "default",
    }
    if claim.sampler:
        wanted.update(sampler=claim.sampler)
    if isinstance(claim.length, int):
        wanted.update(length=claim.length)
    # In a diagnosis the part after the @ is a surrogate, in samples a sampler.
    if part:
        column = "surrogate" if "surrogate" in frame else "sampler"
        wanted[column] = part

    if not wanted.keys() <= set(frame):
        return frame.iloc[:0]
    return select(frame, **wanted)


def _quarters(frame: pd.DataFrame) -> pd.Series:
    """Return the quarter, 1 to 4, of each row. Updates count from 1, denoising steps from 0; samples get 0."""
    if "step" not in frame:
        return pd.Series(0, index=frame.index)
    first = 0 if "surrogate" in frame else 1
    return quarters(frame, first)
