"""What may be said about methods from few seeds and the same test problems for all: intervals, paired tests, Holm.

The seed is the unit of what is said about methods. What is said about two policies of one seed has the test problem as
its unit: both answered the same ones. Randomness has a fixed seed, so a table made again is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 2000
Grades = NDArray[np.float64]  # [seeds, examples]


def standard_error(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Of the mean of values that are one draw each, seeds say; NaN for fewer than two."""
    return float(stats.sem(values)) if len(values) > 1 else float("nan")


def bootstrap_interval(strata: Sequence[Grades], level: float = 0.95) -> tuple[float, float]:
    """Percentile interval for the mean over strata (tasks) of the mean grade, from resampled seeds and examples.

    Each resample draws, for every task, seeds and examples with replacement. The examples are drawn once for all seeds,
    since these saw the same ones: a hierarchy of examples within seeds would take shared luck for independent luck
    (the pigeonhole bootstrap of Owen, 2007). With one seed it speaks of that seed's policy alone. Resamples of a few
    seeds never leave their range; the seeds' means are spread by `widening` first. That is right for roughly normal
    seeds; it is too wide where they hardly differ, and too narrow, as Student's t, where one in many is far off.
    """
    rng = np.random.default_rng(0)
    means = np.zeros(RESAMPLES)
    for grades in strata:
        seeds, examples = grades.shape
        by_seed = grades.mean(1, keepdims=True)
        grades = grades + (widening(seeds, level) - 1) * (by_seed - by_seed.mean())
        # How often each seed and each example is drawn: the mean of a resample is a product of counts.
        of_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
        of_example = rng.multinomial(examples, np.full(examples, 1 / examples), RESAMPLES) / examples
        means += np.einsum("rs,se,re->r", of_seed, grades, of_example, optimize=True) / len(strata)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def widening(count: int, level: float = 0.95) -> float:
    """√(n/(n−1)) · t/z: with values so far spread about their mean, resampling n of them reaches as far as Student's t.

    The narrowness of the percentile bootstrap in small samples [Hesterberg, The American Statistician 69, 2015].
    """
    if count < 2:
        return 1.0
    upper = (1 + level) / 2
    return float(np.sqrt(count / (count - 1)) * stats.t.ppf(upper, count - 1) / stats.norm.ppf(upper))


def problem_interval(share: float, error: float, problems: int, level: float = 0.95) -> tuple[float, float]:
    """Ends of Wilson's interval over test problems, for a share whose standard error over them is `error`.

    The score interval of n problems, with n replaced by share · (1 − share) / error², the number of independent 0/1
    grades that would have this error [Korn and Graubard, Survey Methodology 24, 1998]. For 0/1 grades that is the
    number of problems itself. A share of 0 or 1, or problems that are all alike, have no spread: each counts as one.
    """
    size = share * (1 - share) / error**2 if error > 0 else problems
    z = float(stats.norm.ppf((1 + level) / 2))
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * float(np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2)))
    return min(share, centre - half), max(share, centre + half)  # not beyond it by rounding, at 0 and 1


def paired_interval(better: NDArray[np.float64], worse: NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile bootstrap interval for the mean difference of two policies' grades on the same examples."""
    difference = better - worse
    if np.ptp(difference) == 0:
        return float(difference[0]), float(difference[0])
    found = stats.bootstrap(
        (difference,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mcnemar(better: NDArray[np.float64], worse: NDArray[np.float64]) -> tuple[int, int, float]:
    """Examples that only `better` has right, only `worse`, and the two-sided p-value of McNemar's exact test."""
    gained, lost = int(((better == 1) & (worse == 0)).sum()), int(((better == 0) & (worse == 1)).sum())
    p = stats.binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    return gained, lost, float(p)


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """P-values adjusted for their number so that any wrong rejection at all stays within the level (Holm 1979)."""
    values = np.asarray(p, dtype=float)
    order = values.argsort()
    scaled = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(np.minimum(scaled, 1.0))
    return adjusted
