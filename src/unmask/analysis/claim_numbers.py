"""Claims on the results of experiments: the rows that they are about, and the finding on each."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from unmask.analysis import diversity
from unmask.analysis.claim_entries import Claim
from unmask.analysis.claims import COLUMNS, Finding, check
from unmask.analysis.scores import RUN
from unmask.common.parquet import read_csv, read_rows, schema
from unmask.config.grid.grid import Grid


def check_all(claims: list[Claim], grid: Grid, experiments: Collection[str], results: Path) -> list[Finding]:
    """Test claims on the given experiments in the folder of a scale; those on others count as not tested."""
    findings = [Finding(claim, "not tested") for claim in claims]
    for name in experiments:
        wanted = [index for index, claim in enumerate(claims) if claim.experiment == name]
        # Samples are large: skip experiments that no claim refers to.
        if not wanted:
            continue
        samples, metrics = numbers(grid, name, results)
        for index in wanted:
            findings[index] = check(claims[index], samples, metrics)
    return findings


def numbers(grid: Grid, experiment: str, results: Path) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return an experiment's samples (or diagnosis rows) and its training metrics, None if it trains nothing."""
    files = [results / path.removeprefix(f"{grid.root}/") for path in grid.samples(experiment)]
    # Diagnoses have their own columns; of samples, skip the generated text unless answers are to be told apart.
    columns = None if grid.experiments[experiment].rows == "steps" else COLUMNS
    several = columns is not None and "sample" in schema(files[0])
    if several:
        columns = list(dict.fromkeys([*COLUMNS, *diversity.SAMPLED]))
    frame = pd.concat([read_rows(file, columns) for file in files], ignore_index=True)
    if several:
        frame = diversity.with_pass_at_k(frame, RUN)

    metrics = None
    if grid.metrics(experiment):
        metrics = read_csv(results / f"metrics/{experiment}.csv")
    return frame, metrics
