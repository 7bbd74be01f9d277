"""Normalisation of config.yaml as loaded: only text, numbers, lists and blocks that every later check can handle."""

from __future__ import annotations

import re
from typing import Any

from unmask.config.errors import ConfigError
from unmask.config.validation.messages import shown

DEEPEST = 16  # nested blocks; config.yaml has six
LARGEST = 2**53  # larger integers are not exact in every file format


def normalise(values: Any, path: tuple[str, ...] = ()) -> Any:
    """Return the values with numbers such as 3e-6, which YAML 1.1 reads as text, as floats and all keys as text.

    Raises ConfigError for values that no setting can have: recursive blocks, huge integers, lone surrogates.
    """
    if wrong := _wrong(values, path):
        raise ConfigError([f"{'.'.join(map(shown, path)) or 'config.yaml'}: {wrong}"])
    if isinstance(values, dict):
        return {name: normalise(values[key], (*path, name)) for key, name in _names(values, path)}
    if isinstance(values, list):
        return [normalise(value, (*path, str(i))) for i, value in enumerate(values)]
    if isinstance(values, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", values):
        return float(values)
    return values


def _wrong(value: Any, path: tuple[str, ...]) -> str | None:
    # A block that contains itself through an alias would recurse forever; the depth limit catches it.
    if len(path) > DEEPEST:
        return f"nested deeper than {DEEPEST} blocks; reduce the nesting"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a whole number beyond 2**53; choose a smaller one"
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        return f"'{shown(value)}' has half a surrogate pair; remove it"
    return None


def _names(block: dict[Any, Any], path: tuple[str, ...]) -> list[tuple[Any, str]]:
    """Pair each key with its name. Raises ConfigError if two names are equal, as those of 9 and "9"."""
    # Keys must pass the same checks as values.
    for key in block:
        normalise(key if isinstance(key, int | str) else None, (*path, "a key"))
    names = [(key, str(key)) for key in block]

    # YAML tells 9 from "9", but names are compared as text everywhere else; one would silently replace the other.
    if len({name for _, name in names}) < len(names):
        raise ConfigError([f"{'.'.join(map(shown, path)) or 'config.yaml'}: two keys have the same name; remove one"])
    return names
