"""Findings on claims as tables: the verdicts in Markdown, and the differences they follow from as CSV."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from unmask.analysis.claim_entries import BINARY, SHARES, Claim, Measure
from unmask.analysis.claims import DECIDED, LEAST_SOLVED, Finding, judged, survivors
from unmask.analysis.frames import distinct, select
from unmask.analysis.metric_names import PAIRS
from unmask.analysis.statistics import Estimate
from unmask.common.catalogue import SAMPLERS, sampler_name, task_name
from unmask.common.errors import InputError
from unmask.methods import method_name

# Added to the table where a base model has a single evaluation.
ONCE = (
    "Where the base model is evaluated once, every seed is compared with that evaluation. Its uncertainty over test "
    "problems is the same for all seeds; intervals over seeds and problems include it."
)
# Added to the table where experiments were run at different times.
COMMITS = "Commit: of the runs that a claim's numbers are from; each experiment is published by itself."
# Added where shares of collapsed runs are compared.
OF_SHARES = (
    "Shares of collapsed runs have the adjusted Wald interval of Bonett and Price: two pairs of runs are added that "
    "differ in opposite directions, so the effect shown is n / (n + 2) of the difference found in n pairs."
)
KEY = ["claim", "metric", "seed"]


def markdown(
    findings: list[Finding],
    scale: str,
    experiments: Sequence[str] = (),
    commits: Mapping[str, str] | None = None,
) -> str:
    """Render the findings as Markdown; `experiments` are those that have numbers.

    Untested claims are counted in one line below the table and have no row. `commits`, by experiment, adds a column.
    """
    tested = [found for found in findings if found.verdict != "not tested"]
    untested = [found.claim for found in findings if found.verdict == "not tested"]
    verdicts = pd.Series([found.verdict for found in tested])
    counts = verdicts.value_counts().to_dict()
    if untested:
        counts["not tested"] = len(untested)
    counted = [f"{count} {verdict}" for verdict, count in counts.items()]

    parts = [
        f"# Claims, checked at scale `{scale}`",
        "Effect: mean paired difference with its 95 % interval, in points for shares. The interval is for other seeds "
        "on other test problems (crossed random effects); where no problems are named, over seeds alone (Student's "
        "t). The verdict follows from the interval alone: on the claimed side of zero `supported`, on the other "
        "`contradicted`; else `equivalent` if the 90 % interval is within ± 2 points, or the claim's own margin, and "
        "`inconclusive` if not. For a claim that nothing is lost, a margin replaces zero. A claim of several parts is "
        "supported only if every part is. Detectable: a true difference this large is shown with a power of about 80 % "
        "(docs/method/statistics.md). Seeds needed: as many make the 90 % interval narrower than ± the margin, at "
        "this spread and on these problems; `–` if no number of seeds does. Intervals are not corrected for the "
        "number of claims; the last column says which differences survive Holm's correction for the tested claims of "
        "their paper. At laptop scale a verdict is about tiny models on tiny tasks, not about the papers' models.",
        f"{', '.join(counted)}. {_decided(tested)}",
    ]
    if any(found.base_once for found in tested):
        parts.append(ONCE)
    if any(part.metric in BINARY for found in tested for part in found.claim.parts):
        parts.append(OF_SHARES)
    if commits is not None:
        parts.append(COMMITS)
    if tested:
        rows = pd.DataFrame([row(found) for found in tested])
        rows["Survives Holm"] = [{True: "yes", False: "no", None: ""}[one] for one in survivors(tested)]
        if commits is not None:
            rows["Commit"] = [commits[found.claim.experiment] for found in tested]
        parts.append(rows.to_markdown(index=False, disable_numparse=True))
    if untested:
        parts.append(_untested(untested, experiments))
    return "\n\n".join(parts) + "\n"


def _decided(tested: list[Finding]) -> str:
    """Count the tested claims with a verdict other than `inconclusive`."""
    count = sum(found.verdict in DECIDED for found in tested)
    share = f" ({100 * count / len(tested):.0f} %)" if tested else ""
    return f"Decided: {count} of {len(tested)} tests{share}."


def row(found: Finding) -> dict[str, str]:
    """Return the row of a tested claim."""
    claim = found.claim
    effects = []
    detectable = []
    needed = []
    for part, effect in zip(claim.parts, found.effects, strict=True):
        effects.append(_effect(part, effect))
        detectable.append(_detectable(part, effect))
        needed.append(_needed(part, effect))

    text = claim.claim
    if claim.note:
        text += f" ({claim.note})"
    return {
        "Claim": text,
        "Source": claim.source,
        "Test": _test(claim),
        "Effect": "; ".join(effects),
        "Detectable": "; ".join(detectable),
        "Seeds × problems": found.size,
        "Seeds needed": "; ".join(needed),
        "Verdict": found.verdict,
    }


def differences(findings: list[Finding]) -> pd.DataFrame:
    """Return a row for each claim (by its key), metric and seed, with a column for each test problem.

    Verdicts follow from these numbers: `from_differences` derives the findings from them again.
    """
    # Claims with equal keys have equal numbers, which are stored once.
    by_key = {found.claim.key: found for found in findings}
    parts = []
    for key, found in by_key.items():
        # An untested claim has no differences, hence no strict zip. Columns are positions, because claims are about
        # different test problems; those with fewer problems are padded with NaN.
        for part, values in zip(found.claim.parts, found.differences, strict=False):
            positions = [str(number) for number in range(values.shape[1])]
            renamed = values.round(6).set_axis(positions, axis=1)
            rows = renamed.reset_index(names="seed")
            parts.append(rows.assign(claim=key, metric=part.metric, base_once=found.base_once))

    if not parts:
        return pd.DataFrame(columns=[*KEY, "base_once"])
    joined = pd.concat(parts, ignore_index=True)
    return joined.set_index([*KEY, "base_once"]).reset_index()  # what names a row first


def from_differences(claims: list[Claim], rows: pd.DataFrame) -> list[Finding]:
    """Return the findings on `claims` from stored differences.

    Raises InputError if the rows are about other claims, such as those of a version that numbered them.
    """
    unknown = set(distinct(rows, "claim")) - {claim.key for claim in claims}
    if unknown:
        names = _distinct(sorted(map(str, unknown)))
        raise InputError(
            f"stored differences are of claims that their file in workflow/resources does not have: {names}; make them "
            "again with snakemake, or publish them again"
        )

    findings = []
    for claim in claims:
        of_claim = select(rows, claim=claim.key)
        by_metric = of_claim.drop(columns=["claim", "base_once"]).set_index("metric")
        values = []
        for part in claim.parts:
            if part.metric in by_metric.index:
                of_part = by_metric.loc[[part.metric]].set_index("seed")
                # Columns without any value are the padding of claims on fewer problems.
                values.append(of_part.dropna(axis=1, how="all"))
        if values:
            findings.append(judged(claim, values, bool(of_claim["base_once"].all())))
        else:
            findings.append(Finding(claim, "not tested"))
    return findings


def merged(claims: list[Claim], kept: pd.DataFrame, new: pd.DataFrame, replaced: Collection[str]) -> pd.DataFrame:
    """Return the differences of two publications in the order of `claims`.

    `new` has all numbers of the experiments in `replaced`, so that their rows in `kept` are dropped; so are rows of
    claims that there are no longer.
    """
    others = [claim.key for claim in claims if claim.experiment not in replaced]
    rows = pd.concat([kept[kept["claim"].isin(others)], new], ignore_index=True)
    order = {claim.key: number for number, claim in enumerate(claims)}
    rows = rows.sort_values("claim", key=lambda keys: keys.map(order), kind="stable")

    # Reading a table may change the last digit of a number, and the other table may have more problems.
    numbers = [name for name in rows if name.isdecimal()]
    rows[numbers] = rows[numbers].astype(float).round(6)
    padding = [name for name in numbers if rows[name].isna().all()]
    return rows.drop(columns=padding).reset_index(drop=True)


def _untested(claims: list[Claim], experiments: Sequence[str]) -> str:
    """Count the claims without numbers in one line, and name the experiments, methods or tasks that they lack."""
    others = [claim for claim in claims if claim.experiment not in experiments]
    here = [claim for claim in claims if claim.experiment in experiments]
    said = []
    if others:
        names = _distinct([f"`{claim.experiment}`" for claim in others])
        said.append(f"{len(others)} of experiments without scores here ({names})")
    if here:
        places = _distinct([_place(claim) for claim in here])
        few = ""
        if any(part.metric == PAIRS for claim in here for part in claim.parts):
            few = f", or with fewer than {LEAST_SOLVED} problems that every run solves twice"
        said.append(f"{len(here)} of methods or tasks that an experiment does not have here{few} ({places})")
    return f"Not tested: {'; '.join(said)}."


def _place(claim: Claim) -> str:
    return f"`{claim.experiment}` on {task_name(claim.task)}"


def _distinct(names: list[str]) -> str:
    """Join the distinct names, in order of first appearance."""
    return ", ".join(dict.fromkeys(names))


def _test(claim: Claim) -> str:
    """Format the comparison as `DMPO − Base, Sudoku, one token a step, mean over lengths, published`."""
    worse = _name(claim.worse) if isinstance(claim.worse, str) else _number(claim.parts[0], claim.worse)
    pair = f"{_name(claim.better)} − {worse}"
    said = [pair, task_name(claim.task)]
    if claim.sampler:
        said.append(sampler_name(claim.sampler))
    if isinstance(claim.length, int):
        said.append(f"L = {claim.length}")
    elif claim.length:
        said.append("mean over lengths")
    if claim.quarter:
        whole = "the steps" if claim.metric == "kl" else "training"
        said.append(f"quarter {claim.quarter} of {whole}")
    if claim.inner:
        said.append(f"update {claim.inner} of a buffer")
    if claim.equal == "flops":
        said.append("at equal FLOPs")
    said.append(" and ".join(map(_measure, claim.parts)))
    return ", ".join(said)


def _measure(part: Measure) -> str:
    """Format a part as `nfe (lower is better)` or `published (no worse than by 5.0)`."""
    said = []
    if part.direction == "lower":
        said.append("lower is better")
    if part.margin:
        said.append(f"no worse than by {_number(part, part.margin)}")

    metric = part.metric.replace("_", " ")
    if not said:
        return metric
    return f"{metric} ({', '.join(said)})"


def _name(who: str) -> str:
    # After the @ is a sampler, or a surrogate where a diagnosis is compared.
    policy, _, part = who.partition("@")
    method, _, variant = policy.partition("/")
    name = method_name(method, variant or "default")
    if not part:
        return name
    readable = part.replace("_", " ")
    return f"{name}, {SAMPLERS.get(part, readable)}"


def _effect(part: Measure, effect: Estimate) -> str:
    """Format an effect as `+12.3 [+1.0, +23.6]`."""
    mean = _number(part, effect.mean, "+")
    if np.isnan(effect.error):  # from one seed
        return f"{mean} (no interval)"
    low, high = effect.interval()
    if part.metric in BINARY:  # a difference of shares
        low, high = max(low, -1.0), min(high, 1.0)
    ends = [_number(part, low, "+"), _number(part, high, "+")]
    return f"{mean} [{', '.join(ends)}]"


def _detectable(part: Measure, effect: Estimate) -> str:
    if not effect.error > 0:  # from one seed, or equal in all: nothing is known about the spread
        return ""
    return _number(part, effect.detectable())


def _needed(part: Measure, effect: Estimate) -> str:
    """Format the number of seeds that makes the 90 % interval narrower than ± the margin."""
    margin = part.equal_within
    if margin is None or not effect.error > 0:
        return ""
    seeds = effect.seeds_within(margin)
    return "–" if seeds is None else str(seeds)


def _number(part: Measure, value: float, sign: str = "") -> str:
    # No negative zero (z): its sign would depend on the rounding of the stored differences.
    if part.metric in SHARES:
        return f"{100 * value:{sign}z.1f}"
    return f"{value:{sign}z.3g}"
