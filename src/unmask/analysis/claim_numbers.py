"""Claims on the results of experiments: the rows that they are about, and the finding on each."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pandas as pd

from unmask.analysis import diversity
from unmask.analysis.claim_entries import Claim
from unmask.analysis.claims import COLUMNS, Finding, check
from unmask.analysis.scores import RUN, read_metrics
from unmask.common.parquet import read_csv, read_rows, schema
from unmask.config.grid.grid import Grid

# Reads the training metrics of an experiment with trained runs, from the folder of a scale.
Reader = Callable[[Grid, str, Path], pd.DataFrame]


def joined_metrics(grid: Grid, experiment: str, results: Path) -> pd.DataFrame:
    """Read the table that the workflow joins from the runs of an experiment."""
    return read_csv(results / f"metrics/{experiment}.csv")


def metrics_of_runs(grid: Grid, experiment: str, results: Path) -> pd.DataFrame:
    """Join the metrics of the runs of an experiment, where the workflow has not joined them yet."""
    frames = [read_metrics(results / path.removeprefix(f"{grid.root}/")) for path in grid.metrics(experiment)]
    return pd.concat(frames, ignore_index=True)


def check_all(
    claims: list[Claim], grid: Grid, experiments: Collection[str], results: Path, metrics_of: Reader
) -> list[Finding]:
    """Test claims on the given experiments in the folder of a scale; those on others count as not tested."""
    findings = [Finding(claim, "not tested") for claim in claims]
    for name in experiments:
        wanted = [index for index, claim in enumerate(claims) if claim.experiment == name]
        # Samples are large: skip experiments that no claim refers to.
        if not wanted:
            continue
        samples = _samples(grid, name, results)
        metrics = metrics_of(grid, name, results) if grid.metrics(name) else None
        for index in wanted:
            findings[index] = check(claims[index], samples, metrics)
    return findings


def _samples(grid: Grid, experiment: str, results: Path) -> pd.DataFrame:
    """Return the samples of an experiment, or the rows of its diagnosis."""
    files = [results / path.removeprefix(f"{grid.root}/") for path in grid.samples(experiment)]
    # Diagnoses have their own columns; of samples, skip the generated text unless answers are to be told apart.
    columns = None if grid.experiments[experiment].rows == "steps" else COLUMNS
    several = columns is not None and "sample" in schema(files[0])
    if several:
        columns = list(dict.fromkeys([*COLUMNS, *diversity.SAMPLED]))
    optional = [diversity.SOLUTION] if several else []
    frame = pd.concat([read_rows(file, columns, optional) for file in files], ignore_index=True)
    return diversity.with_pass_at_k(frame, RUN) if several else frame
