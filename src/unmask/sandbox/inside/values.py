"""Plain values as JSON: what crosses the pipe between the parent and a sandboxed process, in both directions.

Only exact built-in types pass, so a class with its own `__eq__` cannot reach a comparison. JSON has no tuples, sets,
complex numbers or large integers, so those are objects with one key, such as `{"tuple": [1, 2]}`. Never pickle: reading
one runs code. This file runs on both sides and imports nothing of the project.
"""

from __future__ import annotations

import itertools
import math
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

DEEPEST = 40  # nested containers
LARGEST = 1 << 53  # integers from here on are written in hexadecimal, which takes linear time
SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": list,
    "iterator": iter,
}
# Taken to their end: a test may pass one to `list`.
NOTHING: dict[None, None] = {}
VIEWS = NOTHING.keys(), NOTHING.values(), NOTHING.items(), iter([*NOTHING])
ITERATORS = (types.GeneratorType, map, filter, zip, enumerate, reversed, *map(type, VIEWS))
LONGEST = 10_000  # items of an iterator
# Subclasses of the standard library that equal their plain contents.
MAPPINGS = (dict, Counter, OrderedDict, defaultdict)


class NotPlainError(ValueError):
    """Value that is not made of built-in types; `overrides` tells whether its class has an equality of its own."""

    def __init__(self, value: object, overrides: bool) -> None:
        super().__init__(f"a {type(value).__name__:.60} is no plain value")
        self.overrides = overrides


def encode(value: Any, depth: int = 0) -> Any:
    """Convert a plain value to what `json.dumps` takes. Raises NotPlainError for any other type."""
    kind = type(value)
    if depth > DEEPEST:
        raise NotPlainError(value, overrides=False)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if -LARGEST < value < LARGEST else {"int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is complex:
        return {"complex": [encode(value.real), encode(value.imag)]}
    if kind in (bytes, bytearray):
        return {"bytes": bytes(value).hex()}
    if kind is range:
        return {"range": [encode(part) for part in (value.start, value.stop, value.step)]}
    if kind is list:
        return [encode(part, depth + 1) for part in value]
    if kind in (tuple, set, frozenset, deque):
        return {kind.__name__: [encode(part, depth + 1) for part in value]}
    if kind in MAPPINGS:
        pairs = dict.items(value)
        return {"dict": [[encode(key, depth + 1), encode(part, depth + 1)] for key, part in pairs]}
    if kind in ITERATORS:
        return {"iterator": [encode(part, depth + 1) for part in itertools.islice(value, LONGEST)]}
    if issubclass(kind, tuple) and hasattr(kind, "_fields") and kind.__eq__ is tuple.__eq__:  # a named tuple
        return {"tuple": [encode(part, depth + 1) for part in tuple.__iter__(value)]}
    raise NotPlainError(value, overrides=_overrides(kind))


def decode(found: Any, depth: int = 0) -> Any:
    """Convert parsed JSON back to a plain value. Raises ValueError if it is not in the form that `encode` writes."""
    if depth > 2 * DEEPEST:
        raise ValueError("nested too deeply")
    match found:
        case None | bool() | int() | float() | str():
            return found
        case list():
            return [decode(part, depth + 1) for part in found]
        case {"int": str(digits), **rest} if not rest:
            return int(digits, 16)
        case {"float": "nan" | "inf" | "-inf" as text, **rest} if not rest:
            return float(text)
        case {"complex": [real, imaginary], **rest} if not rest:
            return complex(decode(real, depth + 1), decode(imaginary, depth + 1))
        case {"bytes": str(digits), **rest} if not rest:
            return bytes.fromhex(digits)
        case {"range": [start, stop, step], **rest} if not rest:
            return range(*(decode(part, depth + 1) for part in (start, stop, step)))
        case {"dict": list(pairs), **rest} if not rest:
            return {decode(key, depth + 1): decode(part, depth + 1) for key, part in pairs}
        case dict() if len(found) == 1:
            ((name, parts),) = found.items()
            if name in SEQUENCES and isinstance(parts, list):
                return SEQUENCES[name]([decode(part, depth + 1) for part in parts])
    raise ValueError(f"no plain value: {found!r:.60}")


def _overrides(kind: type) -> bool:
    """Return True if a class, or a class of its own among its bases, defines `__eq__`."""
    for base in kind.__mro__:
        if "__eq__" in vars(base):
            return base.__module__ != "builtins"
    return False
