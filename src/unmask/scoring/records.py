"""Files of generations: our own samples (parquet), JSON lines, and the JSON that the d1 and DMPO repositories write.

The latter is one object with a list `generations` of records, or such records one a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Columns of our sample files and what records call them.
OURS = {"prompt": "question", "completion": "generations", "gold": "ground_truth"}


class BrokenError(ValueError):
    """A record that cannot be understood."""


def read_records(file: Path) -> Iterator[tuple[int, Any]]:
    """Line and record, or a BrokenError in its place if it is not JSON. Raises ValueError if there is no such file."""
    try:
        if file.suffix == ".parquet":
            yield from _from_parquet(file)
            return
        content = file.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read ({error})") from error
    whole = _json(content)
    lines = [(line, _json(text)) for line, text in enumerate(content.split(b"\n"), 1) if text.strip()]
    if isinstance(whole, BrokenError) and (file.suffix == ".jsonl" or any(isinstance(v, dict) for _, v in lines)):
        yield from ((line, record) for line, value in lines for record in _records(value))
    else:
        yield from enumerate(_records(whole), 1)


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


def _from_parquet(file: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(file).to_pylist()
    lacking = OURS.keys() - (rows[0].keys() if rows else OURS.keys())
    if lacking:
        raise ValueError(f"no column {', '.join(sorted(lacking))}")
    for number, row in enumerate(rows, 1):
        yield number, {theirs: row[ours] for ours, theirs in OURS.items()}
