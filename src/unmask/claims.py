"""Claims of the papers as checks on our numbers: a difference between two policies over the seeds, and a verdict.

The difference is taken seed by seed (both policies start from the same base model and see the same test examples) after
averaging over lengths and samplers, unless the claim names one. The verdict follows from its 95 % interval alone: above
zero, `supported`; below, `not supported`; else `inconclusive`. A claim that nothing is lost has a margin in place of
zero. Without the numbers it is `not tested`. A base model that is evaluated once is compared with every seed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from unmask.config.kinds import Block, Count, Name, NonNegative
from unmask.entries import read_entries
from unmask.names import SAMPLERS, method_name, sampler_name, task_name
from unmask.scores import interval, quarters, to_come

# Said where a base model has one run.
ONCE = (
    "Where the base model is evaluated once, every seed is compared with that evaluation. Its uncertainty over test "
    "problems is the same for all seeds, and the intervals here, over seeds, leave it out; the tables of comparisons "
    "have intervals over seeds and examples, which include it."
)
SHARES = {"published", "strict", "accuracy", "clamped", "clipped"}  # written in points


class Claim(Block):
    """One entry of claims.yaml: on `task`, `better` has a better `metric` than `worse`."""

    claim: str
    source: str
    experiment: Name
    task: Name
    better: str = Field(description="method or method/variant; then @surrogate for `kl`, or @sampler")
    worse: str
    metric: str = Field(description="a column of the scores, or else of the training metrics or the diagnosis")
    direction: Literal["higher", "lower"] = "higher"
    margin: NonNegative = Field(default=0.0, description="what `better` may lose: for claims of `no worse`")
    sampler: Name | None = None
    length: Count | None = None
    quarter: Annotated[int, Field(ge=1, le=4)] | None = Field(
        default=None, description="of the updates, or of the denoising steps; all when absent"
    )


@dataclass(frozen=True)
class Finding:
    """A claim with what we measured; effect = better − worse."""

    claim: Claim
    verdict: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    base_once: bool = False  # the base model has one evaluation, which every seed is compared with


def read(path: Path) -> list[Claim]:
    """The claims of a file. Raises InputError that names each wrong entry."""
    entries = read_entries(path, Claim, lambda i, entry: f"claim {i}")
    return [Claim(**entry) for entry in entries]


def check(claim: Claim, scores: pd.DataFrame | None, metrics: pd.DataFrame | None = None) -> Finding:
    """Test one claim on an experiment's scores (or diagnosis) and training metrics."""
    frame = next((f for f in (scores, metrics) if f is not None and claim.metric in f), None)
    if frame is None:
        return Finding(claim, "not tested")
    better, worse = (by_seed(frame, claim, who) for who in (claim.better, claim.worse))
    bases = frame[(frame["method"] == "base") & (frame["task"] == claim.task)]
    once = not bases.empty and bases["seed"].nunique() == 1 and not to_come(bases)
    better, one = _for_seeds_of(worse, better, once and _method(claim.better) == "base")
    worse, other = _for_seeds_of(better, worse, once and _method(claim.worse) == "base")
    difference = (better - worse).dropna().to_numpy()
    if len(difference) == 0:
        return Finding(claim, "not tested")
    effect, low, high = interval(difference)
    return Finding(claim, _verdict(claim, low, high), effect, low, high, len(difference), one or other)


def _for_seeds_of(others: pd.Series, mine: pd.Series, once: bool) -> tuple[pd.Series, bool]:
    """A policy's values, those of a run that was made `once` for each seed of the other; and whether they had to be."""
    if not once or mine.empty or others.index.isin(mine.index).all():
        return mine, False
    return pd.Series(mine.iloc[0], index=others.index), True


def _method(who: str) -> str:
    return re.split("[@/]", who)[0]


def _verdict(claim: Claim, low: float, high: float) -> str:
    worst, best = (low, high) if claim.direction == "higher" else (-high, -low)
    if worst > -claim.margin:
        return "supported"
    return "not supported" if best < -claim.margin else "inconclusive"


def by_seed(frame: pd.DataFrame, claim: Claim, who: str) -> pd.Series:
    """The metric of one policy on the claim's task, a value a seed; steps of a diagnosis weigh as many as their tokens.

    Empty where the frame has no such policy.
    """
    policy, _, part = who.partition("@")
    method, _, variant = policy.partition("/")
    wanted: dict[str, Any] = {"task": claim.task, "method": method, "variant": variant or "default"}
    wanted |= {"surrogate" if "surrogate" in frame else "sampler": part} if part else {}
    wanted |= {key: getattr(claim, key) for key in ("sampler", "length") if getattr(claim, key) is not None}
    for key, value in wanted.items():
        frame = frame[frame[key] == value] if key in frame else frame.iloc[:0]
    if claim.quarter:
        frame = frame[_quarters(frame) == claim.quarter]
    weight = frame["tokens"] if "surrogate" in frame else pd.Series(1.0, index=frame.index)
    known = weight.where(frame[claim.metric].notna())
    sums = pd.DataFrame({"sum": frame[claim.metric] * known, "weight": known}).groupby(frame["seed"]).sum()
    return (sums["sum"] / sums["weight"]).replace([np.inf, -np.inf], np.nan)


def _quarters(frame: pd.DataFrame) -> pd.Series:
    """1 to 4 for each row: updates count from 1, denoising steps from 0; scores have none."""
    if "step" not in frame:
        return pd.Series(0, index=frame.index)
    return quarters(frame, first=0 if "surrogate" in frame else 1)


def markdown(findings: list[Finding], scale: str, experiments: Sequence[str] = ()) -> str:
    """The findings as a table; those without numbers are counted. `experiments` are those that have scores."""
    tested = [f for f in findings if f.verdict != "not tested"]
    rows = [
        {
            "Claim": f.claim.claim,
            "Source": f.claim.source,
            "Test": _test(f.claim),
            "Effect": _effect(f),
            "Seeds": f.seeds or "",
            "Verdict": f.verdict,
        }
        for f in tested
    ]
    counts = pd.Series([f.verdict for f in tested]).value_counts().to_dict()
    if len(tested) < len(findings):
        counts["not tested"] = len(findings) - len(tested)
    head = (
        f"# Claims, checked at scale `{scale}`\n\nEffect: mean over seeds of the paired difference with its 95 % "
        "interval (Student's t), in points for shares; over all lengths and step modes unless the test names one. The "
        "verdict follows from the interval alone: on the claimed side of zero `supported`, on the other "
        "`not supported`, else `inconclusive`; for a claim that nothing is lost a margin stands in place of zero. "
        "Intervals are not corrected for the number of claims. At laptop scale a verdict is about tiny models on tiny "
        f"tasks, not about the papers' models.\n\n{', '.join(f'{n} {verdict}' for verdict, n in counts.items())}.\n\n"
    )
    parts = [head.rstrip("\n")]
    if any(f.base_once for f in tested):
        parts.append(ONCE)
    if rows:
        parts.append(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    if len(tested) < len(findings):
        parts.append(_untested([f.claim for f in findings if f.verdict == "not tested"], experiments))
    return "\n\n".join(parts) + "\n"


def _untested(claims: list[Claim], experiments: Sequence[str]) -> str:
    """One line: how many claims have no numbers, and what these would be of."""
    others = [claim for claim in claims if claim.experiment not in experiments]
    here = [claim for claim in claims if claim.experiment in experiments]
    said = []
    if others:
        names = ", ".join(f"`{name}`" for name in dict.fromkeys(claim.experiment for claim in others))
        said.append(f"{len(others)} of experiments without scores here ({names})")
    if here:
        places = dict.fromkeys(f"`{claim.experiment}` on {task_name(claim.task)}" for claim in here)
        said.append(f"{len(here)} of methods or tasks that an experiment does not have here ({', '.join(places)})")
    return f"Not tested: {'; '.join(said)}."


def _test(claim: Claim) -> str:
    """`DMPO − Base, Sudoku, published`."""
    parts = [f"{_name(claim.better)} − {_name(claim.worse)}", task_name(claim.task), claim.metric.replace("_", " ")]
    parts += [sampler_name(claim.sampler)] if claim.sampler else []
    parts += [f"L = {claim.length}"] if claim.length else []
    parts += (
        [f"quarter {claim.quarter} of {'the steps' if claim.metric == 'kl' else 'training'}"] if claim.quarter else []
    )
    parts += ["lower is better"] if claim.direction == "lower" else []
    parts += [f"no worse than by {_number(claim, claim.margin)}"] if claim.margin else []
    return ", ".join(parts)


def _name(who: str) -> str:
    policy, _, part = who.partition("@")
    method, _, variant = policy.partition("/")
    named = SAMPLERS.get(part, part.replace("_", " "))
    return method_name(method, variant or "default") + (f", {named}" if part else "")


def _effect(f: Finding) -> str:
    if f.effect is None or f.low is None or f.high is None:
        return ""
    effect, low, high = (_number(f.claim, value, "+") for value in (f.effect, f.low, f.high))
    return f"{effect} [{low}, {high}]"


def _number(claim: Claim, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if claim.metric in SHARES else f"{value:{sign}.3g}"
