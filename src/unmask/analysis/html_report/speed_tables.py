"""Tables of the speed of training runs and evaluations: for the page, as Markdown and as CSV."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from unmask.analysis.html_report.speed import EVALUATED
from unmask.common.catalogue import sampler_name, task_name
from unmask.methods import method_colour, method_name

Format = Callable[[float], str]


@dataclass(frozen=True)
class Line:
    """Row of a table."""

    labels: list[str]
    colour: str  # of its method
    cells: list[str]  # empty for a number that is unknown
    share: float  # percent of the largest number of tokens per second in the block
    device: str


@dataclass(frozen=True)
class Block:
    """Table of one task."""

    task: str
    labels: list[str]  # headings of what names a row
    numbers: list[str]  # headings of the numbers
    lines: list[Line]


@dataclass(frozen=True)
class Table:
    """Tables of training or of evaluation, one for each task."""

    title: str
    note: str
    blocks: list[Block]


def significant(value: float) -> str:
    """Format with three significant digits and without an exponent, so that the page can sort by the number."""
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(digits, 0)}f}"


def whole(value: float) -> str:
    """Format a count; a mean over runs that differ keeps a decimal."""
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


# Column of the numbers -> its heading, and the format of its cells.
TRAINING: dict[str, tuple[str, Format]] = {
    "runs": ("Runs", whole),
    "updates": ("Updates", whole),
    "nfe": ("NFE", significant),
    "tokens_per_second": ("Tokens/s", significant),
    "seconds": ("Seconds", significant),
    "tflops": ("TFLOPs", significant),
    "tflops_per_second": ("TFLOP/s", significant),
    "processes": ("Processes", whole),
}
EVALUATION: dict[str, tuple[str, Format]] = {
    "runs": ("Runs", whole),
    "nfe": ("NFE", significant),
    "tokens": ("Tokens", significant),
    "tokens_per_pass": ("Tokens/NFE", significant),
    "tokens_per_second": ("Tokens/s", significant),
    "seconds": ("Seconds", significant),
    "processes": ("Processes", whole),
}
TRAINING_NOTE = (
    "Means over the runs of a method. Tokens per second: tokens of the rollouts, up to the end of text, over all "
    "seconds of a run on all its processes, with its updates and its validation. FLOPs are estimated from the tokens "
    "that pass through the model. SFT draws no tokens."
)
EVALUATION_NOTE = (
    "Means over the runs of a method, for one response: forward passes (NFE), tokens up to the end of text, and its "
    "share of the seconds of the process that decoded it together with others."
)


def tables(training: pd.DataFrame, evaluation: pd.DataFrame) -> list[Table]:
    """Return the tables of the page."""
    return [
        Table("Training", TRAINING_NOTE, _blocks(training, TRAINING)),
        Table("Evaluation", EVALUATION_NOTE, _blocks(evaluation, EVALUATION)),
    ]


def _blocks(frame: pd.DataFrame, columns: dict[str, tuple[str, Format]]) -> list[Block]:
    if frame.empty:
        return []
    labels = ["Method"]
    if "sampler" in frame:
        labels += ["Sampler", "Length"]
    numbers = [heading for heading, _ in columns.values()]
    blocks = []
    for task, group in frame.groupby("task", sort=False):
        lines = []
        for row in group.to_dict("records"):
            share = row["tokens_per_second"] / group["tokens_per_second"].max()
            line = Line(
                labels=_names(row),
                colour=method_colour(row["method"]),
                cells=[_cell(row[name], show) for name, (_, show) in columns.items()],
                share=0.0 if pd.isna(share) else 100 * share,
                device=row["device"],
            )
            lines.append(line)
        blocks.append(Block(task_name(str(task)), labels, numbers, lines))
    return blocks


def _names(row: dict[str, str]) -> list[str]:
    """Return what names a row besides its task: the method and, of an evaluation, sampler and length."""
    method = method_name(row["method"], row["variant"])
    if row["model"]:
        method = f"{method}, model {row['model']}"
    if "sampler" not in row:
        return [method]
    return [method, sampler_name(row["sampler"]), str(row["length"])]


def _cell(value: float, show: Format) -> str:
    return "" if pd.isna(value) else show(value)


def markdown(tables: list[Table]) -> str:
    """Render the tables as Markdown."""
    parts = ["# Speed"]
    for table in tables:
        parts += [f"## {table.title}", table.note]
        for block in table.blocks:
            rows = [[*line.labels, *line.cells, line.device] for line in block.lines]
            body = pd.DataFrame(rows, columns=[*block.labels, *block.numbers, "Device"])
            parts += [f"### {block.task}", body.to_markdown(index=False, disable_numparse=True)]
    return "\n\n".join(parts) + "\n"


def csv(training: pd.DataFrame, evaluation: pd.DataFrame) -> str:
    """Return the numbers of all tables unrounded; `phase` says which table a row is of."""
    phases = {"training": training, "evaluation": evaluation}
    filled = [frame.assign(phase=phase) for phase, frame in phases.items() if not frame.empty]
    if not filled:
        return ""
    both = pd.concat(filled, ignore_index=True)
    first = ["phase", *EVALUATED]
    rest = [column for column in both if column not in first]
    return both.reindex(columns=[*first, *rest]).to_csv(index=False)
