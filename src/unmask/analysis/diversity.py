"""Diversity of evaluations with several samples per problem: pass@k, and how many right answers differ.

All are of strict grades. The unit is the problem: its samples are averaged, or combined, before anything else, because
they are no independent evidence about other problems. Tasks with several solutions say which one a right answer is, in
the column `solution`; elsewhere answers are told apart by their text.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from unmask.analysis.formatting import spread
from unmask.analysis.metric_names import DISTINCT, ENTROPY, PAIRS
from unmask.analysis.statistics import problem_interval

KS = (1, 2, 4, 8, 16)
# Heading, scale and digits of what is no pass@k.
PRINTED = {DISTINCT: ("right answers", 1, 2), PAIRS: ("distinct pairs (%)", 100, 1), ENTROPY: ("entropy (bits)", 1, 2)}
PROBLEM = "example"
SOLUTION = "solution"  # column that samples of tasks with several solutions have
SAMPLED = ["example", "sample", "answer"]  # columns of a file of samples that has several per problem


def pass_at_k(right: int, samples: int, k: int) -> float:
    """Return 1 − C(n − c, k) / C(n, k), n = `samples` of which c = `right`: the unbiased estimate of pass@k.

    That is the probability that at least one of k samples is right [Chen et al., arXiv 2107.03374, equation 1]. Raises
    ValueError if k > n.
    """
    if k > samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {samples}")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def names(samples: int) -> list[str]:
    """Return the columns of an evaluation with so many samples per problem."""
    return [*(f"pass_at_{k}" for k in KS if k <= samples), *PRINTED]


def found_in(columns: pd.Index) -> list[str]:
    """Return the diversity columns among those of scores or cells, in order; [] for one sample per problem."""
    return [name for name in names(max(KS)) if name in columns]


def of_problems(frame: pd.DataFrame, run: list[str]) -> pd.DataFrame:
    """Compute the diversity columns of each run and problem, a row for each. `frame` has a row for each sample.

    Answers count as one if they are the same solution or, in tasks with one solution, differ in white space only. With
    nᵢ right samples of answer i, n in all: `distinct_pairs` is 1 − Σ nᵢ(nᵢ − 1) / n(n − 1), the share of pairs of right
    samples that differ [Simpson, Nature 163, 1949], which does not grow with accuracy; NaN for n < 2. The entropy is
    −Σ pᵢ log₂ pᵢ with pᵢ = nᵢ / n, 0 for n = 0; with few samples it is below that of the policy on average. Raises
    ValueError if problems have different numbers of samples.
    """
    rows = []
    for key, group in frame.groupby([*run, PROBLEM], sort=False):
        right = group[group["strict"] == 1]
        values = {f"pass_at_{k}": pass_at_k(len(right), len(group), k) for k in KS if k <= len(group)}
        # An experiment may have tasks of both kinds.
        has_solutions = SOLUTION in group and group[SOLUTION].notna().all()
        answers = right[SOLUTION] if has_solutions else right["answer"].map(lambda text: "".join(str(text).split()))
        counts = answers.value_counts().to_numpy()
        values |= {DISTINCT: len(counts), PAIRS: distinct_pairs(counts)}
        if has_solutions:
            values[ENTROPY] = float(stats.entropy(counts, base=2)) if len(counts) else 0.0
        rows.append(dict(zip([*run, PROBLEM], key, strict=True)) | values)
    found = pd.DataFrame(rows)
    if found.filter(like="pass_at_").isna().any(axis=None):
        raise ValueError("problems have different numbers of samples")
    return found


def distinct_pairs(counts: np.ndarray) -> float:
    """Return the share of pairs of samples that differ, from how many samples each answer has; NaN without a pair."""
    total = counts.sum()
    if total < 2:
        return math.nan
    return float(1 - (counts * (counts - 1)).sum() / (total * (total - 1)))


def of_runs(frame: pd.DataFrame, run: list[str]) -> pd.DataFrame:
    """Average the diversity of problems by run, with standard errors over problems in columns `…_error`.

    Distinct pairs are averaged over the problems that have a pair of right samples.
    """
    problems = of_problems(frame, run)
    groups = problems.groupby(run, sort=False)[found_in(problems.columns)]
    # As elsewhere in the scores: the root of the mean square deviation over the number of problems.
    errors = groups.std(ddof=0).div(np.sqrt(groups.count()))
    return groups.mean().join(errors.add_suffix("_error"))


def per_problem(frame: pd.DataFrame, run: list[str]) -> pd.DataFrame:
    """Average the samples of each problem, so that what follows counts problems."""
    kept = frame.drop(columns=["sample", "answer", SOLUTION], errors="ignore")
    return kept.groupby([*run, PROBLEM], sort=False).mean().reset_index()


def with_pass_at_k(frame: pd.DataFrame, run: list[str]) -> pd.DataFrame:
    """Return a row for each run and problem: means over its samples, pass@k, and `gain_at_16`, pass@16 − pass@1."""
    found = of_problems(frame, run)
    if {"pass_at_1", "pass_at_16"} <= set(found):
        found["gain_at_16"] = found["pass_at_16"] - found["pass_at_1"]
    return per_problem(frame, run).merge(found, on=[*run, PROBLEM])


def over_problems(name: str, mean: float, error: float, problems: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval over problems: Wilson's of a pass@k, the normal one of the others."""
    if name not in PRINTED:
        return problem_interval(mean, error, problems)
    half = float(stats.norm.ppf(0.975)) * error
    return max(0.0, mean - half), mean + half


def blocks(group: pd.DataFrame, label: str, heading: str) -> list[tuple[str, pd.DataFrame]]:
    """Return a block for each length with pass@k and the right answers; none for one sample per problem."""
    columns = found_in(group.dropna(axis="columns", how="all").columns)
    made = []
    for length, of_length in group.groupby("length", sort=False):
        body = []
        for cell in of_length.to_dict("records"):
            row = {label: cell[label]}
            for name in columns:
                default = (name.replace("pass_at_", "pass@"), 100, 1)
                head, scale, digits = PRINTED.get(name, default)
                # A policy that is never right twice has no pairs.
                row[head] = spread(cell, name, scale, digits) if not math.isnan(cell[name]) else "–"
            body.append(row)
        if columns:
            made.append((f"{heading}, L = {length}: pass@k, and how many right answers differ", pd.DataFrame(body)))
    return made
