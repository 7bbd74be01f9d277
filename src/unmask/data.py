"""Files of rows: a task's splits and the samples of its runs. The answer to a row may be any JSON value.

Each is a parquet file with the hash of its rows among its metadata, so that a changed bit is found when it is read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from unmask.files import InputError, writing
from unmask.tasks import Example

DIGEST = b"sha256"  # key of the metadata


def write_rows(path: Path, rows: list[Example]) -> None:
    """Write rows to a parquet file, whole or not at all."""
    table = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
    with writing(path) as temporary:
        parquet.write_table(table.replace_schema_metadata({**table.schema.metadata, DIGEST: digest(table)}), temporary)


def read_rows(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """The columns of a file that `write_rows` wrote, all of them for None. Raises InputError if a row has changed."""
    table = checked(path)
    if lacking := set(columns or ()) - set(table.column_names):
        raise InputError(f"{path}: no column {', '.join(sorted(lacking))}. Delete it and run snakemake again.")
    # Without pandas' own metadata, which the hash does not cover: it could give a column another name.
    return (table.select(columns) if columns else table).replace_schema_metadata().to_pandas()


def checked(path: Path) -> pa.Table:
    """A file of rows with the hash of them among its metadata. Raises InputError if that is not their hash."""
    try:
        table = parquet.read_table(path)
        if (table.schema.metadata or {}).get(DIGEST) != digest(table):
            raise ValueError("it was damaged or changed: the hash among its metadata is not that of its rows")
        return table
    except (OSError, ValueError, KeyError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read ({error}). Delete it and run snakemake again.") from error


def read_csv(path: Path) -> pd.DataFrame:
    """A table that a step wrote. Raises InputError naming the file if it is none."""
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Delete it and run snakemake again.") from error


def read_examples(path: Path) -> list[Example]:
    """Rows of a split as plain Python values. Raises InputError naming the file if it is not one."""
    table = checked(path)
    lacking = {"question", "answer", "difficulty"} - set(table.column_names)
    if lacking:
        raise InputError(f"{path}: no column {', '.join(sorted(lacking))}; delete it and run snakemake again")
    examples: list[Example] = table.to_pylist()
    return examples


def digest(table: pa.Table) -> bytes:
    """A hash of names and values as JSON, which every version of the library writes alike."""
    content = json.dumps([table.column_names, table.to_pylist()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest().encode()
