"""Parquet files of rows: the splits of a task and the samples of its runs. Answers may be any JSON value.

The metadata of each file holds a hash of its rows, so that corruption is detected on reading.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError

DIGEST = b"sha256"  # metadata key of the hash


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a parquet file atomically."""
    table = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
    metadata = {**table.schema.metadata, DIGEST: digest(table)}
    with atomic_write(path) as temporary:
        parquet.write_table(table.replace_schema_metadata(metadata), temporary)


def read_rows(path: Path, columns: list[str] | None = None, optional: Iterable[str] = ()) -> pd.DataFrame:
    """Read columns (default: all) of a file written by `write_rows`, and of `optional` ones those that it has.

    Raises InputError if the file or one of `columns` is missing, or if it is corrupted.
    """
    table = checked(path)
    lacking = set(columns or ()) - set(table.column_names)
    if lacking:
        raise InputError(f"{path}: no column {', '.join(sorted(lacking))}. Delete it and run snakemake again.")

    # Drop pandas' own metadata: the hash does not cover it, and a corrupted copy could rename a column.
    if columns:
        table = table.select([*columns, *(name for name in optional if name in table.column_names)])
    return table.replace_schema_metadata().to_pandas()


def schema(path: Path) -> list[str]:
    """Return the names of the columns of a file. Raises InputError if it is missing or corrupted."""
    return list(checked(path).column_names)


def checked(path: Path) -> pa.Table:
    """Read a table and verify the hash in its metadata. Raises InputError if they do not match."""
    # Depending on which byte is corrupted, pyarrow raises any of these errors.
    try:
        table = parquet.read_table(path)
        metadata = table.schema.metadata or {}
        if metadata.get(DIGEST) != digest(table):
            raise ValueError("it was damaged or changed: the hash in its metadata is not that of its rows")
        return table
    except (OSError, ValueError, KeyError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({error}). Delete it and run snakemake again.") from error


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV table written by another step. Raises InputError naming the file if that fails."""
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Delete it and run snakemake again.") from error


def digest(table: pa.Table) -> bytes:
    """Return the SHA-256 of column names and values, as hexadecimal digits."""
    # Hash JSON instead of the file: pyarrow's encoding of the same rows changes between versions.
    content = json.dumps([table.column_names, table.to_pylist()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest().encode()
