"""Files of generations: our own samples (parquet), JSON lines, and the JSON that the d1 and DMPO repositories write.

The latter is one object with a list `generations` of records, or such records one a line. Parquet and `.jsonl` are read
piece by piece, so they may be larger than the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unmask.files import InputError

# Columns of our sample files and what records call them.
OURS = {"prompt": "question", "completion": "generations", "gold": "ground_truth"}
Numbered = tuple[int, Any]  # line of JSON lines, elsewhere the number of the record; the record


class BrokenError(ValueError):
    """A record that cannot be understood."""


def read_records(file: Path) -> Iterator[Numbered]:
    """All records with their places, or a BrokenError in the place of one that is not JSON.

    Raises InputError if the file cannot be read or holds none.
    """
    read = _from_parquet if file.suffix == ".parquet" else _from_json
    place = 0
    try:
        for place, record in read(file):
            yield place, record
    except (OSError, ValueError) as error:  # pyarrow raises either
        raise InputError(f"{file}: cannot be read ({error}); correct the path or the file") from error
    if not place:
        raise InputError(f"{file}: no records in it")


def _from_json(file: Path) -> Iterator[Numbered]:
    """Line by line if the file is called .jsonl, or is not JSON as a whole but has an object on some line."""
    if file.suffix == ".jsonl":
        with file.open("rb") as stream:
            yield from _lines(stream)
        return
    content = file.read_bytes()
    if not content.strip():
        return
    whole = _json(content)
    lines = list(_lines(content.split(b"\n"))) if isinstance(whole, BrokenError) else []
    yield from lines if any(isinstance(record, dict) for _, record in lines) else enumerate(_records(whole), 1)


def _lines(lines: Iterable[bytes]) -> Iterator[Numbered]:
    for number, text in enumerate(lines, 1):
        if text.strip():
            yield from ((number, record) for record in _records(_json(text)))


def _records(value: Any) -> list[Any]:
    """The records of a whole file or of one line."""
    if isinstance(value, dict) and isinstance(value.get("generations"), list):
        return value["generations"]
    return value if isinstance(value, list) else [value]


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return BrokenError(f"not JSON: {error}")


def _from_parquet(file: Path) -> Iterator[Numbered]:
    """Rows with the names of records beside their own."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as table:
        if lacking := OURS.keys() - set(table.schema_arrow.names):
            raise ValueError(f"no column {', '.join(sorted(lacking))}")
        rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield number, row | {theirs: row[ours] for ours, theirs in OURS.items()}
