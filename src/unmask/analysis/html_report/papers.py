"""A page per paper: what it claims and what we find, what it prints next to ours, and how its checkpoint was chosen.

The report shows the pages as parts with addresses of their own, and `markdown` writes them to a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unmask.analysis import claim_entries, claim_tables, claims
from unmask.analysis.claims import Finding
from unmask.analysis.html_report.links import File, Folders
from unmask.analysis.html_report.printed_numbers import Numbers, Table, numbers
from unmask.analysis.html_report.verdicts import VERDICTS, reason
from unmask.analysis.paper_entries import NOT_STATED, Paper, find, paper_of, place_in
from unmask.common.catalogue import task_name
from unmask.common.errors import InputError
from unmask.common.parquet import read_csv
from unmask.config.grid.grid import Grid

HOW = (
    "We select checkpoints on validation problems; selecting on the test set inflates accuracy. Verdicts at the "
    "smaller scales are about tiny models on tiny tasks. Intervals are 95 % intervals. Holm's correction covers the "
    "tested claims of one paper, separately for the main list of claims, the field's and the enumerated ones."
)
INTRODUCTION = (
    "For each paper: its claims with our verdicts, enumerated ones included; the numbers that it prints, next to ours "
    f"where the whole protocol is the same; and how its reported checkpoint was selected. {HOW}"
)
COMPARED = "Ours − printed in points: formed only if base model, problems, prompt, decoding and metric are the same."
COUNTED = (*VERDICTS, "not tested")
PROJECT = Path(__file__).parents[4]


@dataclass(frozen=True)
class PaperPage:
    """Content of the page on one paper."""

    paper: Paper
    anchor: str
    counts: dict[str, int]  # verdict -> claims
    tested: Table
    untested: Table
    numbers: Numbers
    methods: list[File]
    fidelity: File | None

    @property
    def selection(self) -> str:
        """How the printed checkpoints were chosen, and where that is said."""
        if self.paper.selection == NOT_STATED:
            return "not stated in the sources read."
        return f"{self.paper.selection}. Source: {self.paper.selection_source}."


def findings_of(resource: Path, differences: Path | None) -> list[Finding]:
    """Return the findings on a file of claims; without differences all are `not tested`."""
    entries = claim_entries.read(resource)
    if differences is None:
        return [Finding(claim, "not tested") for claim in entries]
    return claim_tables.from_differences(entries, read_csv(differences))


def pages(
    papers: Sequence[Paper],
    files: Sequence[Sequence[Finding]],
    printed: pd.DataFrame,
    grid: Grid,
    experiments: Sequence[str],
    folders: Folders,
    commits: Mapping[str, str] | None = None,
) -> list[PaperPage]:
    """Return a page for each paper, from the findings on each file of claims and the printed numbers.

    `commits`, by experiment, adds a column to the tested claims.
    Raises InputError if a claim names a number of arXiv that no paper has, or if a linked file is missing.
    """
    tested: dict[str, Table] = {paper.name: [] for paper in papers}
    untested: dict[str, Table] = {paper.name: [] for paper in papers}
    counts: dict[str, Counter[str]] = {paper.name: Counter() for paper in papers}
    for findings in files:
        # The family of Holm's correction is that of the file's own table.
        for found, survives in zip(findings, claims.survivors(findings), strict=True):
            paper = paper_of(found.claim.source, papers)
            if paper is None:  # a question of our own
                continue
            counts[paper.name][found.verdict] += 1
            if found.verdict == "not tested":
                untested[paper.name].append(_untested(found, grid, experiments))
            else:
                commit = {"Commit": commits.get(found.claim.experiment, "")} if commits is not None else {}
                tested[paper.name].append(_tested(found, survives) | commit)

    made = []
    for paper in papers:
        of_paper = [number for number in printed.itertuples(index=False) if find(number.source, papers) == paper]
        made.append(
            PaperPage(
                paper=paper,
                anchor=f"paper-{slug(paper.name)}",
                counts={verdict: counts[paper.name][verdict] for verdict in COUNTED},
                tested=tested[paper.name],
                untested=untested[paper.name],
                numbers=numbers(pd.DataFrame(of_paper), grid, experiments, folders),
                methods=[folders.outside(PROJECT / f"src/unmask/methods/{name}.py") for name in paper.methods],
                fidelity=_fidelity(paper, folders),
            )
        )
    return made


def _tested(found: Finding, survives: bool | None) -> dict[str, str]:
    cells = claim_tables.row(found)
    return {
        "Verdict": found.verdict,
        "Claim": cells["Claim"],
        "Place": place_in(found.claim.source),
        "Test": cells["Test"],
        "Effect": cells["Effect"],
        "Survives Holm": {True: "yes", False: "no", None: ""}[survives],
    }


def _untested(found: Finding, grid: Grid, experiments: Sequence[str]) -> dict[str, str]:
    return {
        "Claim": found.claim.claim,
        "Place": place_in(found.claim.source),
        "Task": task_name(found.claim.task),
        "Why": reason(found.claim, grid, experiments),
    }


def slug(heading: str) -> str:
    """Return the anchor that Markdown renderers give a heading of letters, digits, spaces and hyphens."""
    return heading.lower().replace(" ", "-")


def _fidelity(paper: Paper, folders: Folders) -> File | None:
    if not paper.fidelity:
        return None
    document = PROJECT / "docs/method/fidelity.md"
    if f"\n### {paper.fidelity}\n" not in document.read_text(encoding="utf-8"):
        raise InputError(f"{document}: no heading {paper.fidelity!r}, which workflow/resources/papers.yaml names")
    file = folders.outside(document)
    return File(f"settings of {paper.fidelity}", f"{file.href}#{slug(paper.fidelity)}")


def markdown(found: Sequence[PaperPage], scale: str, introduction: str = INTRODUCTION) -> str:
    """Render the pages as one Markdown file, with a list of the papers first; a paper's heading is its anchor."""
    parts = [f"# The papers, at scale `{scale}`", introduction]
    index = []
    for page in found:
        name = page.paper.name
        counted = {verdict.capitalize(): str(count or "") for verdict, count in page.counts.items()}
        index.append({"Paper": f"[{name}](#{slug(name)})"} | counted)
    parts.append(_rendered(index))
    for page in found:
        parts += _sections(page)
    return "\n\n".join(parts) + "\n"


def _sections(page: PaperPage) -> Iterator[str]:
    paper = page.paper
    yield f"## {paper.name}"
    places = [f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"] if paper.arxiv else []
    places += [f"code {paper.code}"] if paper.code else []
    links = [f"[{file.name}]({file.href})" for file in (*page.methods, page.fidelity) if file]
    yield f"*{paper.title}*, {', '.join(places)}." + (f" Here: {', '.join(links)}." if links else "")
    yield f"How its printed checkpoint was chosen: {page.selection}"
    if page.tested:
        yield _rendered(page.tested)
    if page.untested:
        yield f"### {paper.name}: claims without numbers here"
        yield _rendered(page.untested)
    if not page.tested and not page.untested:
        yield "No claim of this paper is tested here."
    if page.numbers.compared:
        yield f"### {paper.name}: printed next to ours"
        yield COMPARED
        yield _rendered(page.numbers.compared)
    if page.numbers.all:
        yield f"### {paper.name}: printed numbers"
        yield page.numbers.note or "All are next to ours above."
        yield _rendered(page.numbers.all)


def _rendered(table: Table) -> str:
    text: str = pd.DataFrame(table).fillna("").to_markdown(index=False, disable_numparse=True)
    return text
