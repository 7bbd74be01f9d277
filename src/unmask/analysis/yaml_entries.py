"""YAML files with a list of entries that come with the project: the papers' numbers and their claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from unmask.common import safe_yaml
from unmask.common.errors import InputError
from unmask.config.validation.messages import problems


def read_entries(path: Path, block: Any, place: Callable[[int, Any], str]) -> list[Any]:
    """Read the entries of a file and validate each as a `block`.

    Raises InputError that lists every mistake, with the `place` of its entry, numbered from 1.
    """
    try:
        entries = safe_yaml.load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"{path}: must be a list of entries")

    # All mistakes at once, so that a file is corrected in one round.
    wrong = []
    for number, entry in enumerate(entries, 1):
        wrong += problems(block, entry, place(number, entry))
    if wrong:
        raise InputError("\n  - ".join([f"{path}:", *wrong]))
    return entries
