"""Files of mistakes: a mistake is in config.yaml, unless the setting in question comes from another file.

Others are those of workflow/config/, files given as `--configfile`, and the command line itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unmask.config.errors import listed
from unmask.config.loading import KINDS, ROOT, RawConfig, default_files, read_settings

TOP = "config.yaml"  # stands for the top level in lines about it
ABSENT = object()
Given = Sequence[tuple[str, RawConfig]]  # source of settings, and the settings


def by_file(lines: list[str], config: RawConfig, given: Given = ()) -> str:
    """Return the message for all mistakes of a configuration, with a heading for each file that has some."""
    groups: dict[str, list[str]] = {}
    for line in lines:
        file = file_of(line, config, given)
        groups.setdefault(file, []).append(re.sub(f"^{TOP}:", f"{file}:", line))
    return "\n".join(listed(file, of_file) for file, of_file in groups.items())


def file_of(line: str, config: RawConfig, given: Given = ()) -> str:
    """Return the file to correct for a line about a mistake, such as `models.tiny: unknown 'layer'; …`.

    `given` has what was given on the command line, the strongest first.
    """
    place, _, text = line.partition(": ")
    # A pilot has no block of its own: its settings are those of its scale.
    place = re.sub(r"^(scales\.[^.]+)-pilot(?=\.|$)", r"\1", place)
    path = "" if place == TOP else place
    candidates = [path]
    if unknown := re.match("(?:unknown )?'(.+?)'", text):
        candidates = [f"{path}.{unknown[1]}".removeprefix("."), path]
    if text == "missing; add it":
        candidates = [path.rpartition(".")[0]]

    for source, settings in given:
        if _is_from(settings, config, candidates, is_of_whole=bool(unknown) or text == "missing; add it"):
            return source

    # A default counts only if it is in use: config.yaml and the command line may have replaced all or part of it.
    for candidate in candidates:
        value = value_at(config, candidate)
        for file, settings in _default_settings().items():
            if value is not ABSENT and value_at(settings, candidate) == value:
                return file
    return TOP


def _is_from(settings: RawConfig, config: RawConfig, candidates: list[str], is_of_whole: bool) -> bool:
    """Return True if what is given on the command line has the setting in question.

    If it has only a part of a block, that part is what has changed, and so at fault, unless the line is about the whole
    block. Lines on merged settings name the method's block, whichever layer has the setting.
    """
    for candidate in filter(None, candidates):
        value, found = value_at(config, candidate), value_at(settings, candidate)
        if found is not ABSENT and (found == value or not is_of_whole):
            return True
        _, is_nested, key = candidate.rpartition(".")
        if value is ABSENT and is_nested and not is_of_whole and key in _keys_in(settings):
            return True
    return False


def _keys_in(values: Any) -> set[str]:
    """Return the keys of all nested blocks."""
    found: set[str] = set()
    for key, value in values.items() if isinstance(values, dict) else ():
        found |= {str(key)} | _keys_in(value)
    return found


@functools.cache
def _default_settings() -> dict[str, RawConfig]:
    return {shown(file): read_settings(file) for file in default_files()}


def value_at(values: Any, path: str) -> Any:
    """Return the value at a dotted path, ABSENT if there is none."""
    if not path:
        return values
    if isinstance(values, list):
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        return ABSENT

    # Names may have dots, so the path is compared with the keys that are there instead of being split.
    for key, value in values.items():
        if f"{path}.".startswith(f"{key}."):
            return value_at(value, path[len(str(key)) + 1 :])

    # Lines name the kind of a block after the block: models.tiny.scratch.layers.
    kind, _, rest = path.partition(".")
    return value_at(values, rest) if kind in {values.get(key) for key in KINDS} else ABSENT


def shown(file: Path) -> str:
    """Return the path of a file of the configuration for a message: relative to the project if it is inside."""
    return file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else str(file)
