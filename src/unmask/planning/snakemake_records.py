"""Snakemake's records of finished jobs, one JSON file for each output in .snakemake/metadata.

Snakemake has no command to change a record, so the layout of its files is repeated here (persistence/file.py of 9.x).
"""

from __future__ import annotations

import ast
import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

METADATA, LOCKS = Path(".snakemake/metadata"), Path(".snakemake/locks")


def record_path(work: Path, output: str) -> Path:
    """Return the file with the record of an output, a path as in the rules; `work` is the folder of the workflow."""
    folder = work / METADATA
    # Names that are too long for a file are cut into folders.
    size = os.pathconf(folder, "PC_NAME_MAX") - 1
    name = urlsafe_b64encode(output.encode()).decode()
    parts = [name[i : i + size] for i in range(0, len(name), size)]
    return folder.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def with_parameters(record: Path, change: Callable[[str], str]) -> str | None:
    """Return the text of a record after `change` of each text among its parameters; None if nothing is changed."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        before = [ast.literal_eval(value) for value in content["params"] or []]
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, RecursionError):
        return None  # no record, or one that Snakemake ignores, too
    after = [change(value) if isinstance(value, str) else value for value in before]
    if after == before:
        return None
    content["params"] = sorted(map(repr, after))
    return json.dumps(content)


def is_locked(work: Path) -> bool:
    """Return True if a snakemake works in the folder, or was killed there and left its lock."""
    folder = work / LOCKS
    return folder.is_dir() and any(folder.iterdir())
