"""Resumable evaluation shards: one parquet file per finished shard.

Files are written under a temporary name and renamed, so writes are atomic. Each records the identity of the evaluation
that it belongs to and a digest of its rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, TransientError
from unmask.common.parquet import DIGEST, checked, digest
from unmask.common.provenance import CHECKPOINT_FORMAT

Row = dict[str, Any]


@dataclass(frozen=True)
class ShardStore:
    """Store of finished shards in `folder` that belong to the evaluation named by `identity` (manifest.py)."""

    folder: Path
    identity: str

    def write(self, name: str, rows: list[Row]) -> None:
        """Write the rows of a finished shard."""
        table = pa.Table.from_pylist(rows)
        facts = {"identity": self._written_by(), DIGEST: digest(table)}
        with atomic_write(self._path(name)) as temporary:
            pq.write_table(table.replace_schema_metadata(facts), temporary)

    def read(self, name: str) -> list[Row] | None:
        """Return the rows of a shard; None if it is missing, damaged or of another evaluation (the last two warn)."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            table = checked(path)
        except InputError as error:
            print(f"{path}: damaged ({error}); recomputing", file=sys.stderr, flush=True)
            return None
        metadata = table.schema.metadata or {}
        if metadata.get(b"identity") != self._written_by().encode():
            print(
                f"{path}: written with other settings, data, weights or code; recomputing", file=sys.stderr, flush=True
            )
            return None
        return table.to_pylist()

    def join(self, names: Iterable[str]) -> list[Row]:
        """Concatenate the rows of the given shards. Raises TransientError that names the first one that is missing."""
        rows: list[Row] = []
        for name in names:
            part = self.read(name)
            if part is None:
                raise TransientError(f"{self._path(name)}: missing or damaged since it was written. Start again.")
            rows += part
        return rows

    def _written_by(self) -> str:
        """Return what a shard must have been written for: this evaluation, by code with the same draws."""
        return f"{self.identity} {CHECKPOINT_FORMAT}"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"
