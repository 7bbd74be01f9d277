"""The headline of the report: right answers of every policy of its first experiment, over all lengths and tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unmask.analysis.comparisons import COLUMNS, aggregates
from unmask.common.parquet import read_rows
from unmask.config.grid.grid import Experiment, Grid

# Columns of `aggregates` -> headings here.
HEADINGS = {
    "Method": "Method",
    "Sampler": "Sampler",
    "Mean": "Right (%)",
    "Seeds and examples": "95 % interval",
    "n": "Seeds × problems of each task",
}


@dataclass(frozen=True)
class Headline:
    """Table of one experiment."""

    experiment: str
    question: str
    headings: list[str]
    rows: list[list[str]]


def headline(root: Path, grid: Grid, experiments: list[Experiment]) -> Headline | None:
    """Return the headline of the first experiment that grades answers; None if all are diagnoses."""
    graded = [one for one in experiments if one.rows != "steps"]
    if not graded:
        return None
    first = graded[0]
    files = [root / path.removeprefix(f"{grid.root}/") for path in grid.samples(first.name)]
    samples = pd.concat([read_rows(file, COLUMNS) for file in files], ignore_index=True)
    table = aggregates(samples)[list(HEADINGS)]
    return Headline(first.name, first.question, list(HEADINGS.values()), table.to_numpy().tolist())
