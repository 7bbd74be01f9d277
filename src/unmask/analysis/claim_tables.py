"""Findings on claims as tables: the verdicts in Markdown, and the differences they follow from as CSV."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from unmask.analysis.claims import Claim, Finding, Measure, judged
from unmask.analysis.statistics import Estimate
from unmask.common.catalogue import SAMPLERS, method_name, sampler_name, task_name

# Added to the table where a base model has a single evaluation.
ONCE = (
    "Where the base model is evaluated once, every seed is compared with that evaluation. Its uncertainty over test "
    "problems is the same for all seeds; intervals over seeds and problems include it."
)
SHARES = {"published", "strict", "accuracy", "clamped", "clipped"}  # printed in points
KEY = ["claim", "metric", "seed"]


def markdown(findings: list[Finding], scale: str, experiments: Sequence[str] = ()) -> str:
    """Render the findings as Markdown; `experiments` are those that have numbers.

    Untested claims are counted in one line below the table and have no row.
    """
    tested = [f for f in findings if f.verdict != "not tested"]
    rows = [
        {
            "Claim": f.claim.claim + (f" ({f.claim.note})" if f.claim.note else ""),
            "Source": f.claim.source,
            "Test": _test(f.claim),
            "Effect": "; ".join(_effect(part, one) for part, one in zip(f.claim.parts, f.effects, strict=True)),
            "Detectable": "; ".join(_detectable(part, one) for part, one in zip(f.claim.parts, f.effects, strict=True)),
            "Seeds × problems": f.size,
            "Verdict": f.verdict,
        }
        for f in tested
    ]

    counts = pd.Series([f.verdict for f in tested]).value_counts().to_dict()
    if len(tested) < len(findings):
        counts["not tested"] = len(findings) - len(tested)

    parts = [
        f"# Claims, checked at scale `{scale}`",
        "Effect: mean paired difference with its 95 % interval, in points for shares. The interval is for other seeds "
        "on other test problems (crossed random effects); where no problems are named, over seeds alone (Student's t). "
        "The verdict follows from the interval alone: on the claimed side of zero `supported`, on the other "
        "`not supported`, else `inconclusive`; for a claim that nothing is lost, a margin replaces zero. A claim of "
        "several parts is supported only if every part is. Detectable: a true difference this large would be shown in "
        "about three quarters of repetitions (docs/method/statistics.md). Intervals are not corrected for the number "
        "of claims. At laptop scale a verdict is "
        "about tiny models on tiny tasks, not about the papers' models.",
        ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + ".",
    ]
    if any(f.base_once for f in tested):
        parts.append(ONCE)
    if rows:
        parts.append(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    if len(tested) < len(findings):
        parts.append(_untested([f.claim for f in findings if f.verdict == "not tested"], experiments))
    return "\n\n".join(parts) + "\n"


def differences(findings: list[Finding]) -> pd.DataFrame:
    """Return a row for each claim (from 1 on), metric and seed, with a column for each test problem.

    Verdicts follow from these numbers: `from_differences` derives the findings from them again.
    """
    parts = []
    for number, found in enumerate(findings, 1):
        # An untested claim has no differences, hence no strict zip. Columns are positions, because claims are about
        # different test problems; those with fewer problems are padded with NaN.
        for part, values in zip(found.claim.parts, found.differences, strict=False):
            rows = values.round(6).set_axis(range(values.shape[1]), axis=1).reset_index(names="seed")
            parts.append(rows.assign(claim=number, metric=part.metric))
    joined = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=KEY)
    return joined.set_index(KEY).reset_index()  # the key columns first


def from_differences(claims: list[Claim], rows: pd.DataFrame) -> list[Finding]:
    """Return the findings on `claims` from stored differences."""
    findings = []
    for number, claim in enumerate(claims, 1):
        mine = rows[rows["claim"] == number].set_index("metric")
        parts = [mine.loc[[part.metric]].set_index("seed") for part in claim.parts if part.metric in mine.index]
        # Columns without any value are the padding of claims on fewer problems.
        values = [part.drop(columns="claim").dropna(axis=1, how="all") for part in parts]
        findings.append(judged(claim, values) if values else Finding(claim, "not tested"))
    return findings


def _untested(claims: list[Claim], experiments: Sequence[str]) -> str:
    """Count the claims without numbers in one line, and name the experiments, methods or tasks that are missing."""
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
    """Format the comparison as `DMPO − Base, Sudoku, one token a step, mean over lengths, published`."""
    parts = [f"{_name(claim.better)} − {_name(claim.worse)}", task_name(claim.task)]
    parts += [sampler_name(claim.sampler)] if claim.sampler else []
    parts += [f"L = {claim.length}" if isinstance(claim.length, int) else "mean over lengths"] if claim.length else []
    if claim.quarter:
        parts.append(f"quarter {claim.quarter} of {'the steps' if claim.metric == 'kl' else 'training'}")
    return ", ".join([*parts, " and ".join(_measure(part) for part in claim.parts)])


def _measure(part: Measure) -> str:
    """Format a part as `nfe (lower is better)` or `published (no worse than by 5.0)`."""
    said = ["lower is better"] if part.direction == "lower" else []
    said += [f"no worse than by {_number(part, part.margin)}"] if part.margin else []
    return part.metric.replace("_", " ") + (f" ({', '.join(said)})" if said else "")


def _name(who: str) -> str:
    # After the @ is a sampler, or a surrogate where a diagnosis is compared.
    policy, _, part = who.partition("@")
    method, _, variant = policy.partition("/")
    named = SAMPLERS.get(part, part.replace("_", " "))
    return method_name(method, variant or "default") + (f", {named}" if part else "")


def _effect(part: Measure, effect: Estimate) -> str:
    if np.isnan(effect.error):  # from one seed
        return f"{_number(part, effect.mean, '+')} (no interval)"
    mean, low, high = (_number(part, value, "+") for value in (effect.mean, *effect.interval()))
    return f"{mean} [{low}, {high}]"


def _detectable(part: Measure, effect: Estimate) -> str:
    return "" if np.isnan(effect.error) else _number(part, effect.detectable())


def _number(part: Measure, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if part.metric in SHARES else f"{value:{sign}.3g}"
