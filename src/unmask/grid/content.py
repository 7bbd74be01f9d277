"""Local files among a task's settings, told by their content: moving one changes nothing, a byte in it does."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from unmask.files import sha256
from unmask.sources import source_file


def with_content(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the hash of each local file that they name; without it where the file is not there (yet)."""
    return {key: _with_hash(key, value) for key, value in settings.items()}


def _with_hash(key: str, value: Any) -> Any:
    if isinstance(value, dict) and value.get("source") == "local":
        try:
            file = source_file(value["path"], key.removesuffix("_source"))
        except ValueError:  # the dry run says what is missing, and the step would
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
    """The hash, computed once for each state of the file."""
    return sha256(Path(file))
