"""What may be said about methods from few seeds and the same test problems for all: intervals, paired tests, Holm.

The seed is the unit of what is said about methods. What is said about two policies of one seed has the test problem as
its unit: both answered the same ones. Randomness has a fixed seed, so a table made again is the same.
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
    """A mean with the independent parts of its variance, each with the degrees of freedom it was estimated from.

    Quantiles are the mean of Student's, weighted by the parts (Cochran and Cox, Experimental Designs, 1950). Of the
    ways to combine them it is the one that kept false verdicts at 5 % (docs/statistics.md). NaN without any part.
    """

    mean: float
    parts: tuple[tuple[float, int], ...]

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return float(np.sqrt(sum(part for part, _ in self.parts))) if self.parts else float("nan")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The ends of the interval."""
        half = self._quantile((1 + level) / 2) * self.error
        return self.mean - half, self.mean + half

    def detectable(self, power: float = 0.8, level: float = 0.95) -> float:
        """The true difference that an interval this wide shows to be other than zero with probability `power`."""
        return (self._quantile((1 + level) / 2) + self._quantile(power)) * self.error

    def _quantile(self, share: float) -> float:
        variance = sum(part for part, _ in self.parts)
        if variance == 0:  # no parts, or no spread: the error alone decides
            return 0.0
        return float(sum(part * stats.t.ppf(share, freedom) for part, freedom in self.parts) / variance)


def standard_error(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Of the mean of values that are one draw each, seeds say; NaN for fewer than two."""
    return float(stats.sem(values)) if len(values) > 1 else float("nan")


def over_seeds(values: NDArray[np.float64]) -> Estimate:
    """The mean of one value a seed; it speaks of these test problems alone, if the seeds shared any."""
    return Estimate(float(np.mean(values)), _part(values))


def over_seeds_and_examples(strata: Sequence[Grades]) -> Estimate:
    """The mean over strata (tasks) of the mean grade, where both seeds and examples are a sample of many.

    Seeds answer the same examples, so a grade has a part of its seed, a part of its example, and a rest (crossed
    random effects). The variance of the mean is estimated by that of the seeds' means and that of the examples' means,
    each divided by their number. Both contain the rest, which thus counts twice: that errs on the safe side. With one
    seed it speaks of that seed's policy alone.
    """
    parts: tuple[tuple[float, int], ...] = ()
    for grades in strata:
        found = _part(grades.mean(1)) + _part(grades.mean(0))
        parts += tuple((variance / len(strata) ** 2, freedom) for variance, freedom in found)
    return Estimate(float(np.mean([grades.mean() for grades in strata])), parts)


def _part(values: NDArray[np.float64]) -> tuple[tuple[float, int], ...]:
    """The variance of the mean of independent values with its degrees of freedom; nothing for fewer than two."""
    return ((float(np.var(values, ddof=1)) / len(values), len(values) - 1),) if len(values) > 1 else ()


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
