"""Claims of the papers as checks on our scores: a difference between two methods over the seeds, and a verdict.

The difference is taken seed by seed (both methods start from the same base model and see the same test examples) after
averaging over lengths and samplers. The verdict follows from its 95 % interval alone: above zero, `supported`; below,
`not supported`; else `inconclusive`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from unmask.names import method_name, task_name
from unmask.scores import interval


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yaml: on `task`, `better` has a higher `metric` than `worse`."""

    claim: str
    source: str
    experiment: str
    task: str
    better: str
    worse: str
    metric: str


@dataclass(frozen=True)
class Finding:
    """A claim with what we measured."""

    claim: Claim
    verdict: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0


def check(claim: Claim, scores: pd.DataFrame | None) -> Finding:
    """Test one claim on an experiment's scores."""
    if scores is None:
        return Finding(claim, "not tested")
    mine = scores[(scores["task"] == claim.task) & (scores["variant"] == "default")]
    if not {claim.better, claim.worse} <= set(mine["method"]):
        return Finding(claim, "not tested")
    by_seed = mine.groupby(["method", "seed"])[claim.metric].mean().unstack("method")
    difference = (by_seed[claim.better] - by_seed[claim.worse]).dropna().to_numpy()
    effect, low, high = interval(difference)
    verdict = "supported" if low > 0 else "not supported" if high < 0 else "inconclusive"
    return Finding(claim, verdict, effect, low, high, len(difference))


def markdown(findings: list[Finding], scale: str) -> str:
    """The findings as a table."""
    rows = [
        {
            "Claim": f.claim.claim,
            "Source": f.claim.source,
            "Test": f"{method_name(f.claim.better)} − {method_name(f.claim.worse)}, {task_name(f.claim.task)}, "
            f"{f.claim.metric}",
            "Effect (points)": ""
            if f.effect is None
            else f"{100 * f.effect:+.1f} [{100 * f.low:+.1f}, {100 * f.high:+.1f}]",
            "Seeds": f.seeds or "",
            "Verdict": f.verdict,
        }
        for f in findings
    ]
    head = (
        f"# Claims, checked at scale `{scale}`\n\nEffect: mean over seeds of the paired difference with its 95 % "
        "interval (Student's t). At laptop scale a verdict is about tiny models on tiny tasks, "
        "not about the papers' models.\n\n"
    )
    return head + pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True) + "\n"
