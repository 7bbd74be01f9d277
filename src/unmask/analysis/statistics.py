"""Statistics for few seeds that share their test problems: intervals, paired tests, Holm's correction.

Statements about methods have the seed as their unit. Statements about two policies of one seed have the test problem as
their unit, because both answered the same problems. Resampling has a fixed random seed, so tables are reproducible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 2000
Grades = NDArray[np.float64]  # [seeds, examples]


@dataclass(frozen=True)
class Estimate:
    """Mean with the independent parts of its variance, each with the degrees of freedom it was estimated from.

    Quantiles are the mean of Student's t, weighted by the parts (Cochran and Cox, Experimental Designs, 1950): of the
    ways to combine them the one that kept false verdicts at 5 % (docs/method/statistics.md). The error is NaN without
    parts.
    """

    mean: float
    parts: tuple[tuple[float, int], ...]

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return float(np.sqrt(sum(part for part, _ in self.parts))) if self.parts else float("nan")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the ends of the confidence interval."""
        half = self._quantile((1 + level) / 2) * self.error
        return self.mean - half, self.mean + half

    def detectable(self, power: float = 0.8, level: float = 0.95) -> float:
        """Return the true difference that an interval of this width separates from zero with probability `power`."""
        return (self._quantile((1 + level) / 2) + self._quantile(power)) * self.error

    def _quantile(self, share: float) -> float:
        variance = sum(part for part, _ in self.parts)
        # Without spread the interval is the mean, without parts the error is NaN; both need a finite quantile.
        if variance == 0:
            return 0.0
        return float(sum(part * stats.t.ppf(share, freedom) for part, freedom in self.parts) / variance)


def standard_error(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the standard error of the mean of independent values, such as seeds; NaN for fewer than two."""
    return float(stats.sem(values)) if len(values) > 1 else float("nan")


def over_seeds(values: NDArray[np.float64]) -> Estimate:
    """Estimate the mean of one value per seed; if seeds share test problems, it holds for these problems only."""
    return Estimate(float(np.mean(values)), _part(values))


def over_seeds_and_examples(strata: Sequence[Grades]) -> Estimate:
    """Estimate the mean over strata (tasks) of the mean grade, where seeds and examples are both random samples.

    Seeds answer the same examples, so a grade has an effect of its seed, an effect of its example, and a residual
    (crossed random effects). The variance of the mean is estimated by that of the seeds' means plus that of the
    examples' means, each divided by their number. Both contain the residual, which therefore counts twice and makes the
    interval conservative. With one seed the estimate is about that seed's policy only.
    """
    parts: tuple[tuple[float, int], ...] = ()
    for grades in strata:
        # The mean over k strata has 1/k² of the sum of their variances.
        found = _part(grades.mean(1)) + _part(grades.mean(0))
        parts += tuple((variance / len(strata) ** 2, freedom) for variance, freedom in found)
    return Estimate(float(np.mean([grades.mean() for grades in strata])), parts)


def _part(values: NDArray[np.float64]) -> tuple[tuple[float, int], ...]:
    """Return the variance of the mean of independent values with its degrees of freedom; () for fewer than two."""
    return ((float(np.var(values, ddof=1)) / len(values), len(values) - 1),) if len(values) > 1 else ()


def problem_interval(share: float, error: float, problems: int, level: float = 0.95) -> tuple[float, float]:
    """Return the ends of Wilson's interval over test problems, for a share with standard error `error` over them.

    The score interval of n problems, with n replaced by share · (1 − share) / error², the number of independent 0/1
    grades that would have this error [Korn and Graubard, Survey Methodology 24, 1998]. For 0/1 grades that is the
    number of problems itself. A share of 0 or 1, or problems that are all alike, have no spread: each counts as one.
    """
    size = share * (1 - share) / error**2 if error > 0 else problems
    z = float(stats.norm.ppf((1 + level) / 2))
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * float(np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2)))
    # At 0 and 1 an end equals the share, and rounding may put it on the wrong side.
    return min(share, centre - half), max(share, centre + half)


def paired_interval(better: NDArray[np.float64], worse: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean difference of two policies on the same examples."""
    difference = better - worse
    # All resamples of equal differences are the same: there is nothing to draw.
    if np.ptp(difference) == 0:
        return float(difference[0]), float(difference[0])
    found = stats.bootstrap(
        (difference,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mcnemar(better: NDArray[np.float64], worse: NDArray[np.float64]) -> tuple[int, int, float]:
    """Return the numbers of examples that only `better` and only `worse` has right, and McNemar's exact two-sided p."""
    gained, lost = int(((better == 1) & (worse == 0)).sum()), int(((better == 0) & (worse == 1)).sum())
    p = stats.binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    return gained, lost, float(p)


def holm(p: Sequence[float]) -> NDArray[np.float64]:
    """Adjust p-values so that the family-wise error rate stays within the level [Holm 1979]."""
    values = np.asarray(p, dtype=float)
    order = values.argsort()
    scaled = values[order] * np.arange(len(values), 0, -1)
    # Step-down: an adjusted value is never below that of a smaller p.
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(np.minimum(scaled, 1.0))
    return adjusted
