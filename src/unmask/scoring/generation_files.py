"""Readers of generations: our own samples (parquet), JSON lines, and the JSON of the d1 and DMPO repositories.

The latter is one object with a list `generations` of records, or one record per line. Parquet and `.jsonl` files are
streamed, so they may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from unmask.common.errors import InputError

# Column of our sample files -> key of a record.
OURS = {"prompt": "question", "completion": "generations", "gold": "ground_truth"}
Numbered = tuple[int, Any]  # line of a JSON lines file, otherwise the index of the record, from 1; and the record


class BrokenError(ValueError):
    """Record that cannot be parsed."""


def read_records(file: Path) -> Iterator[Numbered]:
    """Yield all records with their line or index; a BrokenError replaces a record that is not JSON.

    Raises InputError if the file cannot be read or has no records.
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
    """Read line by line if the suffix is .jsonl, or if the whole file is not JSON but some line is an object."""
    if file.suffix == ".jsonl":
        with file.open("rb") as stream:
            yield from _lines(stream)
        return
    content = file.read_bytes()
    if not content.strip():
        return
    whole = _json(content)
    if isinstance(whole, BrokenError):
        lines = list(_lines(content.split(b"\n")))
        # If no line is an object either, one error for the whole file is clearer than one for each line.
        if any(isinstance(record, dict) for _, record in lines):
            yield from lines
            return
    yield from enumerate(_records(whole), 1)


def _lines(lines: Iterable[bytes]) -> Iterator[Numbered]:
    for number, text in enumerate(lines, 1):
        if text.strip():
            for record in _records(_json(text)):
                yield number, record


def _records(value: Any) -> list[Any]:
    """Return the records in the value of a whole file or of one line."""
    if isinstance(value, dict):
        generations = value.get("generations")
        return generations if isinstance(generations, list) else [value]
    return value if isinstance(value, list) else [value]


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return BrokenError(f"not JSON: {error}")


def _from_parquet(file: Path) -> Iterator[Numbered]:
    """Yield rows with the keys of records in addition to their own columns."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as table:
        if lacking := OURS.keys() - set(table.schema_arrow.names):
            raise ValueError(f"no column {', '.join(sorted(lacking))}")
        number = 0
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                number += 1
                record = {theirs: row[ours] for ours, theirs in OURS.items()}
                yield number, row | record
