"""Numbers that a paper prints, next to ours where all of the protocol is the same.

A difference is formed only where `paper_results.differences` finds none in the protocol, as in the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from unmask.analysis import paper_results
from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.formatting import spread
from unmask.analysis.frames import select
from unmask.analysis.html_report.links import Folders
from unmask.analysis.paper_entries import Paper, find, place_in
from unmask.analysis.paper_results import Row
from unmask.common.catalogue import sampler_name, task_name
from unmask.common.parquet import read_csv
from unmask.config.grid.grid import Grid
from unmask.config.schema.checkpoints import Printed
from unmask.config.schema.types import Values
from unmask.methods import method_name

Table = list[dict[str, str]]  # cells by heading, a row each


@dataclass(frozen=True)
class Numbers:
    """Printed numbers of a paper: all of them, those next to ours, and what differs in the protocol of the others."""

    all: Table
    compared: Table
    note: str


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
