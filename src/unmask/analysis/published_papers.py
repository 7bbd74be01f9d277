"""Published verdicts by paper: papers.md of docs/results, from the findings on all published experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from unmask.analysis import claim_entries, claim_tables, paper_entries
from unmask.analysis.claims import Finding
from unmask.analysis.html_report import papers
from unmask.analysis.html_report.links import Folders
from unmask.common.parquet import read_csv
from unmask.config.grid.grid import Grid
from unmask.config.loading import ROOT

CLAIMS = ROOT / "workflow/resources/surrogate_claims.yaml"
DIFFERENCES = "surrogates-claims.csv"
FIELD = "field_claims.md"


def enumerated(made: Path | None, stored: Path | None) -> list[Finding]:
    """Return the findings on the claims that are tested by enumeration.

    `made` are their differences if `surrogates` is published now, `stored` those that were published before. Without
    either, all are `not tested`.
    """
    if made is not None:
        return papers.findings_of(CLAIMS, made)
    claims = claim_entries.read(CLAIMS)
    if stored is None or not stored.exists():
        return papers.findings_of(CLAIMS, None)
    # The list of claims may have changed since: those that are gone are left out, as from the other tables.
    rows = read_csv(stored)
    return claim_tables.from_differences(claims, rows[rows["claim"].isin([claim.key for claim in claims])])


def text(
    found_in: Sequence[Sequence[Finding]],
    grid: Grid,
    target: Path,
    commits: Mapping[str, str],
    *,
    field: bool,
) -> str:
    """Return papers.md; a number that a paper prints is in the tables of experiments.

    `found_in` has the findings on each file of claims, `commits` those of each published experiment, and `field` says
    whether the field's claims have a table.
    """
    known = paper_entries.read(ROOT / "workflow/resources/papers.yaml")
    measured = {found.claim.experiment for findings in found_in for found in findings if found.verdict != "not tested"}
    # The links start from the target, and none leads to the folder of results.
    folders = Folders(target, target)
    no_numbers = pd.DataFrame(columns=["source"])
    made = papers.pages(known, found_in, no_numbers, grid, sorted(measured), folders, commits)
    all_claims = "[all_claims.md](all_claims.md)"
    sources = f"{all_claims}, [{FIELD}]({FIELD})" if field else all_claims
    introduction = (
        "For each paper: its claims with our verdicts, and how its reported checkpoint was selected. Verdicts come "
        f"from {sources} and the enumerated surrogates. Units, verdicts and intervals are explained at the top of "
        f"{all_claims}. {papers.HOW}"
    )
    return papers.markdown(made, grid.place, introduction)
