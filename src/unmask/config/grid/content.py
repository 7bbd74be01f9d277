"""Content hashes of local files named in task settings: moving a file changes no digest, editing it does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from unmask.common.checksums import sha256
from unmask.config.data_files import source_file
from unmask.config.schema.types import LocalData, Values, source_from


def with_content(settings: Values) -> Values:
    """Return the settings with the SHA-256 of each local file that they name, if the file exists."""
    return {key: _with_hash(key, value) for key, value in settings.items()}


def _with_hash(key: str, value: Any) -> Any:
    source = source_from(value) if key.endswith("_source") else None
    if isinstance(source, LocalData):
        # Files may be fetched later; the dry run reports missing ones (readiness.py), and so does the step.
        try:
            file = source_file(source.path, key.removesuffix("_source"))
        except ValueError:
            return value
        return value | _hashed(file)
    if key.endswith("prompt_file") and value and Path(value).is_file():
        return {"path": value} | _hashed(Path(value))
    return value


def _hashed(file: Path) -> dict[str, str]:
    stat = file.stat()
    return {"sha256": _sha256(str(file.absolute()), stat.st_size, stat.st_mtime_ns)}


@functools.cache
def _sha256(file: str, size: int, mtime: int) -> str:
    """Return the SHA-256 of a file; size and mtime are part of the cache key."""
    # Every run of a task asks for the same files, which can be large.
    return sha256(Path(file))
