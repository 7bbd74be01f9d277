"""Canonical files of a task: one parquet a split, one row an example. The answer to a row may be any JSON value."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from unmask.files import InputError, writing
from unmask.tasks import Example


def write_rows(path: Path, rows: list[Example]) -> None:
    """Write rows to a parquet file, whole or not at all."""
    with writing(path) as temporary:
        pd.DataFrame(rows).to_parquet(temporary, index=False)


def read_examples(path: Path) -> list[Example]:
    """Rows of a split as plain Python values. Raises InputError naming the file if it is not one."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable parquet file ({error}). Delete it and run snakemake again."
        ) from error
    lacking = {"question", "answer", "difficulty"} - set(frame)
    if lacking:
        raise InputError(f"{path}: no column {', '.join(sorted(lacking))}; delete it and run snakemake again")
    return frame.to_dict("records")
