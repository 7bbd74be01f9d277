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
    wrong = _wrong(values, path)
    if wrong:
        raise ConfigError([f"{_dotted(path)}: {wrong}"])
    if isinstance(values, dict):
        return _block(values, path)
    if isinstance(values, list):
        return [normalise(value, (*path, str(i))) for i, value in enumerate(values)]
    if isinstance(values, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", values):
        return float(values)
    return values


def _block(block: dict[Any, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """Return a block with its keys as text. Raises ConfigError if two names are equal, as those of 9 and "9"."""
    found: dict[str, Any] = {}
    for key, value in block.items():
        # Keys must pass the same checks as values.
        normalise(key if isinstance(key, int | str) else None, (*path, "a key"))
        name = str(key)
        # YAML tells 9 from "9", but names are compared as text everywhere else; one would silently replace the other.
        if name in found:
            raise ConfigError([f"{_dotted(path)}: two keys have the same name; remove one"])
        found[name] = normalise(value, (*path, name))
    return found


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(map(shown, path)) or "config.yaml"


def _wrong(value: Any, path: tuple[str, ...]) -> str | None:
    # A block that contains itself through an alias would recurse forever; the depth limit catches it.
    if len(path) > DEEPEST:
        return f"nested deeper than {DEEPEST} blocks; reduce the nesting"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a whole number beyond 2**53; choose a smaller one"
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        return f"'{shown(value)}' has half a surrogate pair; remove it"
    return None
