"""Lists of entries in YAML files that come with the project: the papers' numbers and their claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from unmask.files import InputError
from unmask.mistakes.lines import problems


def read_entries(path: Path, block: Any, place: Callable[[int, Any], str]) -> list[Any]:
    """The entries of a file, each a `block`. Raises InputError that names each wrong one by its `place`, from 1 on."""
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"{path}: should be a list of entries")
    wrong = [line for i, entry in enumerate(entries, 1) for line in problems(block, entry, place(i, entry))]
    if wrong:
        raise InputError("\n  - ".join([f"{path}:", *wrong]))
    return entries
