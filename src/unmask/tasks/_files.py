"""Rows of local files, by format: JSON lines, CSV and parquet.

Values are not converted. CSV columns stay text, because type inference would turn the Sudoku "0140…" into a number.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def file_rows(file: Path) -> list[Row]:
    """Read the rows of a JSON lines, CSV or parquet file. Raises ValueError naming the file and line."""
    if file.suffix not in READERS:
        raise ValueError(f"{file}: in none of the formats {', '.join(READERS)}; convert it")
    try:
        rows = READERS[file.suffix](file)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{file}: cannot be read ({error}); correct the path or the file") from error
    if not rows:
        raise ValueError(f"{file}: has no rows")
    return rows


def _jsonl(file: Path) -> list[Row]:
    # Lines are decoded one by one, so that invalid UTF-8 is reported with its line.
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: not an object")
        rows.append(row)
    return rows


def _csv(file: Path) -> list[Row]:
    # Spreadsheet programs write a byte order mark, which would become part of the first column's name.
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def _parquet(file: Path) -> list[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(file).to_pylist()
    except (pa.ArrowException, ArithmeticError) as error:  # not all of them are a ValueError
        raise ValueError(str(error)) from error


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
