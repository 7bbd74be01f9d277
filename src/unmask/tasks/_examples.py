"""Reading the examples of a prepared split."""

from __future__ import annotations

from pathlib import Path

from unmask.common.errors import InputError
from unmask.common.parquet import checked
from unmask.tasks import Example


def read_examples(path: Path) -> list[Example]:
    """Read a split as plain Python values. Raises InputError naming the file if it is not a split."""
    table = checked(path)
    lacking = {"question", "answer", "difficulty"} - set(table.column_names)
    if lacking:
        raise InputError(f"{path}: no column {', '.join(sorted(lacking))}; delete it and run snakemake again")
    examples: list[Example] = table.to_pylist()
    return examples
