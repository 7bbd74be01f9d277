"""A page per paper: what it claims and what we find, what it prints next to ours, and how its checkpoint was chosen.

The report shows the pages as parts with addresses of their own, and `markdown` writes them to a file. A difference to a
printed number is formed only where `paper_results.differences` finds none in the protocol, as in the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unmask.analysis import claim_entries, claim_tables, claims, paper_results
from unmask.analysis.claims import Finding
from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.formatting import spread
from unmask.analysis.frames import select
from unmask.analysis.html_report.links import File, Folders
from unmask.analysis.html_report.verdicts import VERDICTS, reason
from unmask.analysis.paper_entries import NOT_STATED, Paper, find, paper_of, place_in
from unmask.analysis.paper_results import Row
from unmask.common.catalogue import sampler_name, task_name
from unmask.common.errors import InputError
from unmask.common.parquet import read_csv
from unmask.config.grid.grid import Grid
from unmask.config.schema.checkpoints import Printed
from unmask.config.schema.types import Values
from unmask.methods import method_name

INTRODUCTION = (
    "What each paper claims and what we find; what it prints, next to ours where all of the protocol is the same; and "
    "how its printed checkpoint was chosen. Ours is chosen on validation problems; a choice on the test set adds "
    "points of its own. Claims that are decided by enumeration count, too. Verdicts at the smaller scales are about "
    "tiny models on tiny tasks; intervals are of 95 %, and Holm's correction is for the tested claims of the paper in "
    "one file."
)
COMPARED = "Ours − printed in points: formed only if base model, problems, prompt, decoding and metric are the same."
COUNTED = (*VERDICTS, "not tested")
PROJECT = Path(__file__).parents[4]
Table = list[dict[str, str]]  # cells by heading, a row each


@dataclass(frozen=True)
class Numbers:
    """Printed numbers of a paper: all of them, those next to ours, and what differs in the protocol of the others."""

    all: Table
    compared: Table
    note: str


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
) -> list[PaperPage]:
    """Return a page for each paper, from the findings on each file of claims and the printed numbers.

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
                tested[paper.name].append(_tested(found, survives))

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


def printed_by_checkpoints(
    checkpoints: dict[str, Values],
    known: pd.DataFrame,
    papers: Sequence[Paper],
) -> pd.DataFrame:
    """Add what the papers print for released checkpoints to the known numbers, where these do not have it already.

    `checkpoints` are those of config.yaml, whose sources may be anything. Their evaluation is unknown, so that no
    difference is ever formed.
    """
    have = set(known[["source", "task", "length", "paper"]].itertuples(index=False, name=None))
    rows = []
    for block in checkpoints.values():
        for values in block.get("printed", []):
            number = Printed(**values)
            if find(number.source, papers) is None:
                continue
            for task, lengths in number.accuracy.items():
                for text, percent in lengths.items():
                    length = text if text == "unstated" else int(text)
                    if (number.source, task, length, percent) not in have:
                        rows.append(_row(number, block, task, length, percent))
    return pd.concat([known, pd.DataFrame(rows)], ignore_index=True) if rows else known


def _row(number: Printed, block: Values, task: str, length: int | str, percent: float) -> Row:
    return Row(
        source=number.source,
        model=block["base"],
        steps=number.steps or "",
        temperature=0.0,
        order="unstated",
        differs=number.note,
        method=block["method"],
        task=task,
        first_stage="",
        length=length,
        paper=percent,
        evaluation="",
        metric="accuracy",
        selection=number.selection,
    )


def numbers(printed: pd.DataFrame, grid: Grid, experiments: Sequence[str], folders: Folders) -> Numbers:
    """Return the printed numbers of a paper, with ours where the protocols are the same."""
    if printed.empty:
        return Numbers([], [], "")
    compared = []
    why: Counter[str] = Counter()  # what differs -> printed numbers
    for record in printed.to_dict("records"):
        number = Row(**record)
        ours, differs = _closest(number, grid, experiments)
        if ours is None:
            why[differs] += 1
        else:
            compared.append(_compared(number, *ours, folders))
    table = paper_results.wide(printed, ["Task", "Method", "Model", "Steps", "Metric", "Source"])
    everything = [{str(heading): str(cell) for heading, cell in row.items()} for row in table.to_dict("records")]
    for row in everything:
        row["Source"] = place_in(row["Source"]) or row["Source"]
    return Numbers(everything, compared, _note(why))


def _note(why: Counter[str]) -> str:
    """Say to how many numbers no difference is formed, and why."""
    if not why:
        return ""
    said = "; ".join(f"{differs}: {count}" for differs, count in why.most_common())
    return f"No difference to ours is formed for {why.total()} of the printed numbers ({said})."


def _closest(
    number: Row,
    grid: Grid,
    experiments: Sequence[str],
) -> tuple[tuple[str, str] | None, str]:
    """Return experiment and sampler of ours that a number may be compared with; None and what differs without any."""
    fewest: list[str] | None = None
    for name in experiments:
        for sampler, protocol in _cells(number, grid, name):
            differs = paper_results.differences(number, sampler, protocol)
            if not differs:
                return (name, sampler), ""
            if fewest is None or len(differs) < len(fewest):
                fewest = differs
    return None, "no run of ours has method, task and length" if fewest is None else ", ".join(fewest)


def _cells(number: Row, grid: Grid, name: str) -> Iterator[tuple[str, Protocol]]:
    """Yield the samplers of an experiment that decodes the number's method, task and length, with its protocol."""
    experiment = grid.experiments[name]
    if experiment.rows == "steps":
        return
    # Papers print default variants.
    policies = {
        (run.method, run.task) for run in map(grid.runs.get, experiment.runs) if run and run.variant == "default"
    }
    evaluation = grid.evaluations[experiment.evaluation_stem.removeprefix("samples-")]
    if (number.method, number.task) in policies and number.length in evaluation.lengths:
        protocol = Protocol.of(grid, name)
        for sampler in evaluation.samplers:
            yield sampler, protocol


def _compared(number: Row, experiment: str, sampler: str, folders: Folders) -> dict[str, str]:
    """Return a printed number next to ours, which the table of an experiment has."""
    cells = read_csv(folders.results / f"tables/{experiment}.csv")
    same = {"task": number.task, "method": number.method, "variant": "default"}
    (cell,) = select(cells, **same, sampler=sampler, length=number.length).to_dict("records")
    return {
        "Task": task_name(number.task),
        "Method": method_name(number.method),
        "L": str(number.length),
        "Decoding": sampler_name(sampler),
        "Printed": f"{number.paper:.1f}",
        "Ours": spread(cell, "published", 100, 1),
        "Ours − printed": f"{100 * cell['published'] - number.paper:+.1f}",
        "Place": place_in(number.source),
        "Experiment": experiment,
    }


def markdown(found: Sequence[PaperPage], scale: str) -> str:
    """Render the pages as one Markdown file, with a list of the papers first; a paper's heading is its anchor."""
    parts = [f"# The papers, at scale `{scale}`", INTRODUCTION]
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
        yield "No claim of this paper has been written down for a test."
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
