"""Statistics for few seeds that share their test problems: intervals, paired tests, Holm's correction.

Statements about methods have the seed as their unit. Statements about two policies of one seed have the test problem as
their unit, because both answered the same problems. Resampling has a fixed random seed, so tables are reproducible.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

RESAMPLES = 2000
MOST_SEEDS = 1000  # up to which `seeds_within` looks
Values = NDArray[np.float64]  # [seeds] or [examples]
Grades = NDArray[np.float64]  # [seeds, examples]
Part = tuple[float, float]  # independent part of a variance, and the degrees of freedom that it was estimated from


@dataclass(frozen=True)
class Estimate:
    """Mean with the independent parts of its variance, each with the degrees of freedom it was estimated from.

    Quantiles are the mean of Student's t, weighted by the parts (Cochran and Cox, Experimental Designs, 1950): of the
    ways to combine them the one that kept false verdicts at 5 % (docs/method/statistics.md). The error is NaN without
    parts.
    """

    mean: float
    parts: tuple[Part, ...]
    # What the problems' part has of the residual variance, which falls with the number of seeds.
    residual: float = field(default=0.0, compare=False)

    @property
    def variance(self) -> float:
        """Variance of the mean; 0 without parts."""
        return sum(part for part, _ in self.parts)

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        if not self.parts:
            return float("nan")
        return float(np.sqrt(self.variance))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the ends of the confidence interval."""
        quantile = self._quantile((1 + level) / 2)
        half = quantile * self.error
        return self.mean - half, self.mean + half

    def p(self, null: float = 0.0) -> float:
        """Return the two-sided p-value of a true mean `null`: 1 minus the level of the interval that ends there.

        NaN without an error; 0 if there is no spread and the mean is not `null`.
        """
        distance = abs(self.mean - null)
        if not self.parts:
            return float("nan")
        if self.variance == 0:
            return float(distance == 0)

        # The quantile grows with the level, so the level is found by bisection.
        def excess(level: float) -> float:
            return self._quantile((1 + level) / 2) * self.error - distance

        most = 1 - 1e-12
        if excess(most) <= 0:
            return 1 - most
        return float(1 - optimize.brentq(excess, 0.0, most))

    def detectable(self, power: float = 0.8, level: float = 0.95) -> float:
        """Return the true difference that an interval of this width separates from zero with probability `power`."""
        of_interval = self._quantile((1 + level) / 2)
        of_power = self._quantile(power)
        return (of_interval + of_power) * self.error

    def seeds_within(self, margin: float, level: float = 0.9) -> int | None:
        """Return the fewest seeds whose interval would lie within mean ± `margin`, at this spread and these problems.

        The parts have to be those of seeds and, if any, of problems, as `over_seeds_and_examples` has for one stratum.
        None if the problems alone make it too wide for any number of seeds.
        """
        (of_seeds, freedom), *of_problems = self.parts
        now = freedom + 1

        def within(seeds: int) -> bool:
            # More seeds leave the spread of the problems as it is, but average the residual in their means.
            others = [(part - self.residual + self.residual * now / seeds, size) for part, size in of_problems]
            planned = Estimate(self.mean, ((of_seeds * now / seeds, seeds - 1), *others))
            _, high = planned.interval(level)
            return high - self.mean < margin

        # The width falls with the number of seeds.
        candidates = range(2, MOST_SEEDS + 1)
        found = bisect_left(candidates, True, key=within)
        return candidates[found] if found < len(candidates) else None

    def _quantile(self, share: float) -> float:
        # Without spread the interval is the mean, without parts the error is NaN; both need a finite quantile.
        if self.variance == 0:
            return 0.0

        weighted = 0.0
        for part, freedom in self.parts:
            weighted += part * stats.t.ppf(share, freedom)
        return float(weighted / self.variance)


def standard_error(values: Sequence[float] | Values) -> float:
    """Return the standard error of the mean of independent values, such as seeds; NaN for fewer than two."""
    if len(values) < 2:
        return float("nan")
    return float(stats.sem(values))


def over_seeds(values: Values) -> Estimate:
    """Estimate the mean of one value per seed; if seeds share test problems, it holds for these problems only."""
    return Estimate(float(np.mean(values)), _part(values))


def over_pairs(values: Values) -> Estimate:
    """Estimate the mean of differences of 0/1 values, one pair per seed: the adjusted Wald interval.

    One pair is added in which only the first is 1, and one in which only the second is [Bonett and Price, Journal of
    Educational and Behavioral Statistics 37, 2012]. So equal pairs, as of no collapse in any run, still have an error;
    the mean is drawn towards 0 by n/(n + 2).
    """
    pairs = len(values) + 2
    first = (np.sum(values > 0) + 1) / pairs
    second = (np.sum(values < 0) + 1) / pairs
    mean = float(first - second)
    variance = float(first + second - mean**2) / pairs
    return Estimate(mean, ((variance, np.inf),))


def over_seeds_and_examples(strata: Sequence[Grades]) -> Estimate:
    """Estimate the mean over strata (tasks) of the mean grade, where seeds and examples are both random samples.

    Seeds answer the same examples, so a grade has an effect of its seed, an effect of its example, and a residual
    (crossed random effects). The variance of the mean is estimated by that of the seeds' means plus that of the
    examples' means, each divided by their number. Both contain the residual, which therefore counts twice and makes the
    interval conservative. With one seed the estimate is about that seed's policy only.
    """
    means: list[float] = []
    parts: list[Part] = []
    residual = 0.0
    for grades in strata:
        means.append(grades.mean())
        residual += _residual(grades) / len(strata) ** 2
        of_seeds_and_examples = _part(grades.mean(1)) + _part(grades.mean(0))
        # The mean over k strata has 1/k² of the sum of their variances.
        for variance, freedom in of_seeds_and_examples:
            parts.append((variance / len(strata) ** 2, freedom))
    return Estimate(float(np.mean(means)), tuple(parts), residual)


def _residual(grades: Grades) -> float:
    """Return what the variance of the problems' means, divided by their number, has of the residual.

    At most all of it: by chance the estimated residual may be larger.
    """
    seeds, problems = grades.shape
    if min(seeds, problems) < 2:
        return 0.0
    of_seeds, of_problems = grades.mean(1, keepdims=True), grades.mean(0, keepdims=True)
    left = grades - of_seeds - of_problems + grades.mean()
    square = float(np.sum(left**2)) / ((seeds - 1) * (problems - 1))
    of_means = float(np.var(of_problems, ddof=1)) / problems
    return min(square / (seeds * problems), of_means)


def _part(values: Values) -> tuple[Part, ...]:
    """Return the variance of the mean of independent values with its degrees of freedom; () for fewer than two."""
    if len(values) < 2:
        return ()
    variance = float(np.var(values, ddof=1)) / len(values)
    return ((variance, len(values) - 1),)


def problem_interval(
    share: float,
    error: float,
    problems: int,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the ends of Wilson's interval over test problems, for a share with standard error `error` over them.

    The score interval of n problems, with n replaced by share · (1 − share) / error², the number of independent 0/1
    grades that would have this error [Korn and Graubard, Survey Methodology 24, 1998]. For 0/1 grades that is the
    number of problems itself. A share of 0 or 1, or problems that are all alike, have no spread: each counts as one.
    """
    spread = share * (1 - share)
    size: float = problems
    if error > 0:
        size = spread / error**2
    z = float(stats.norm.ppf((1 + level) / 2))

    shrink = 1 + z**2 / size
    centre = (share + z**2 / (2 * size)) / shrink
    variance = spread / size + z**2 / (4 * size**2)
    half = z / shrink * float(np.sqrt(variance))
    low = centre - half
    high = centre + half

    # At 0 and 1 an end equals the share, and rounding may put it on the wrong side.
    return min(share, low), max(share, high)


def paired_interval(better: Values, worse: Values) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean difference of two policies on the same examples."""
    difference = better - worse
    # All resamples of equal differences are the same: there is nothing to draw.
    if np.ptp(difference) == 0:
        same = float(difference[0])
        return same, same

    rng = np.random.default_rng(0)
    found = stats.bootstrap(
        (difference,),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=rng,
    )
    low, high = found.confidence_interval
    return float(low), float(high)


def mcnemar(better: Values, worse: Values) -> tuple[int, int, float]:
    """Return the numbers of examples that only `better` and only `worse` has right, and McNemar's exact two-sided p.

    Of grades that are shares of several samples: the numbers where each has the larger share, and the sign test.
    """
    only_better = better > worse
    only_worse = better < worse
    gained = int(only_better.sum())
    lost = int(only_worse.sum())
    # Examples on which both agree say nothing. Without any other, nothing speaks against equality.
    if gained + lost == 0:
        return 0, 0, 1.0
    test = stats.binomtest(gained, gained + lost, 0.5)
    return gained, lost, float(test.pvalue)


def holm(p: Sequence[float]) -> Values:
    """Adjust p-values so that the family-wise error rate stays within the level [Holm 1979]."""
    values = np.asarray(p, dtype=float)
    order = values.argsort()
    tests_left = np.arange(len(values), 0, -1)
    scaled = np.minimum(values[order] * tests_left, 1.0)

    # Step-down: an adjusted value is never below that of a smaller p.
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted
