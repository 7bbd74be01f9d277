"""Verdicts on the papers' claims, for the report: the tested ones first, the others with what they lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from unmask.analysis.claim_entries import OWN, SHARES, Claim
from unmask.analysis.claim_tables import row
from unmask.analysis.claims import Finding, survivors
from unmask.analysis.html_report.links import with_papers
from unmask.common.catalogue import task_name
from unmask.config.grid.grid import Experiment, Grid

# In the order of the sentence that counts them.
VERDICTS = ("supported", "contradicted", "equivalent", "inconclusive")


@dataclass(frozen=True)
class Interval:
    """Effect on a scale from 0 to 100 that all intervals of the page share, with the place of no difference."""

    low: float
    mean: float
    high: float
    zero: float


@dataclass(frozen=True)
class Line:
    """Tested claim: its cells by heading, and its interval if it is about shares and has one."""

    cells: dict[str, str | Markup]
    verdict: str
    interval: Interval | None


@dataclass(frozen=True)
class Untested:
    """Claim without numbers."""

    claim: str
    source: Markup
    reason: str


def summary(findings: Sequence[Finding]) -> str:
    """Return the verdicts as one sentence: `Of 6 tests of the papers' claims, 4 are supported, 1 is contradicted`."""
    counts = Counter(found.verdict for found in findings)
    untested = counts.pop("not tested", 0)
    tested = counts.total()
    if not tested:
        return "No claim of the papers is about these runs."

    parts = []
    for verdict in VERDICTS:
        if counts[verdict]:
            parts.append(f"{counts[verdict]} {_is(counts[verdict])} {verdict}")
    of = "the one test" if tested == 1 else f"{tested} tests"
    text = f"Of {of} of {_whose(findings)}, {', '.join(parts)}."
    if untested:
        text += f" {untested} {'claim' if untested == 1 else 'claims'} {_is(untested)} not tested here."
    return text


def _whose(findings: Sequence[Finding]) -> str:
    """Return who asks what was tested: papers, we ourselves, or both."""
    tested = [found.claim.source for found in findings if found.verdict != "not tested"]
    own = [source.startswith(OWN) for source in tested]
    if all(own):
        return "our own questions"
    return "the papers' claims and our own questions" if any(own) else "the papers' claims"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def lines(findings: Sequence[Finding]) -> list[Line]:
    """Return the tested claims, in their order."""
    tested = [found for found in findings if found.verdict != "not tested"]
    intervals = _intervals(tested)
    made = []
    for found, survives, interval in zip(tested, survivors(tested), intervals, strict=True):
        cells: dict[str, str | Markup] = {**row(found)}
        cells["Source"] = with_papers(found.claim.source)
        cells["Survives Holm"] = {True: "yes", False: "no", None: ""}[survives]
        made.append(Line(cells, found.verdict, interval))
    return made


def _intervals(findings: Sequence[Finding]) -> list[Interval | None]:
    """Place the effects of all claims about shares on one scale; None for the others, and for those of one seed.

    A claim of several parts is placed by its first part.
    """
    ends = []
    for found in findings:
        effect = found.effects[0]
        comparable = found.claim.metric in SHARES and not np.isnan(effect.error)
        ends.append((*effect.interval(), effect.mean) if comparable else None)

    # No difference is always on the scale, so that its line can be drawn.
    values = [value for one in ends if one for value in one]
    least = min([0.0, *values])
    span = max([0.0, *values]) - least or 1.0
    placed: list[Interval | None] = []
    for one in ends:
        if one is None:
            placed.append(None)
            continue
        low, high, mean = (100 * (value - least) / span for value in one)
        placed.append(Interval(low, mean, high, 100 * -least / span))
    return placed


def untested(findings: Sequence[Finding], grid: Grid, experiments: Sequence[str]) -> list[Untested]:
    """Return the claims without numbers and why they have none; `experiments` are those of the report."""
    claims = [found.claim for found in findings if found.verdict == "not tested"]
    return [Untested(one.claim, with_papers(one.source), reason(one, grid, experiments)) for one in claims]


def reason(claim: Claim, grid: Grid, experiments: Sequence[str]) -> str:
    """Say why a claim has no numbers: its policies are not at this scale, or the target that makes them was not run."""
    name = claim.experiment
    planned = grid.experiments.get(name)
    # Enumerated claims need no run, so that their target is at every scale.
    if planned is None and name != "surrogates":
        return f"not tested at this scale: it has no experiment {name}"
    if planned is not None and not _has_both(claim, grid, planned):
        return f"not tested at this scale: {name} does not have both policies on {task_name(claim.task)}"
    if name not in experiments:
        return f"no results of target {name} here"
    return f"{name} has no problems that both policies answered"


def _has_both(claim: Claim, grid: Grid, planned: Experiment) -> bool:
    """Return True if an experiment runs both policies of a claim on its task."""
    there = set()
    for address in planned.runs:
        run = grid.runs[address]
        tasks = planned.transfers.get(address, []) if run.corpus else [run.task]
        there |= {(run.method, run.variant, task) for task in tasks}
    for who in (claim.better, claim.worse):
        if isinstance(who, float):  # a number to compare with
            continue
        method, _, variant = who.partition("@")[0].partition("/")
        if (method, variant or "default", claim.task) not in there:
            return False
    return True
