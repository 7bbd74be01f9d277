"""Parts of a long piece of work, a parquet file each, so that a step that was killed goes on where it was.

A file is written under a temporary name and renamed, so it is whole or absent. It says what work it belongs to, and has
the hash of its rows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unmask.data import DIGEST, checked, digest
from unmask.files import InputError, TransientError, writing

Row = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """The finished parts in `folder` that belong to one piece of work, which `identity` names (manifest.py)."""

    folder: Path
    identity: str

    def write(self, name: str, rows: list[Row]) -> None:
        """Keep the rows of a finished part."""
        table = pa.Table.from_pylist(rows)
        facts = {"identity": self.identity, DIGEST: digest(table)}
        with writing(self._path(name)) as temporary:
            pq.write_table(table.replace_schema_metadata(facts), temporary)

    def read(self, name: str) -> list[Row] | None:
        """The rows of a part; None, and a word on why, if it is not whole or belongs to other work."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            table = checked(path)
        except InputError as error:
            print(f"{path}: damaged ({error}); made again", file=sys.stderr, flush=True)
            return None
        if (table.schema.metadata or {}).get(b"identity") != self.identity.encode():
            print(f"{path}: left by other settings, data or weights; made again", file=sys.stderr, flush=True)
            return None
        return table.to_pylist()

    def join(self, names: Iterable[str]) -> list[Row]:
        """The rows of all these parts. Raises InputError naming the first that is not there."""
        rows: list[Row] = []
        for name in names:
            part = self.read(name)
            if part is None:
                raise TransientError(f"{self._path(name)}: gone or damaged since it was written. Start again.")
            rows += part
        return rows

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"
