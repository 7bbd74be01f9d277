"""Places of keys: the blocks in which a key may stand, for messages about keys at the wrong level."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel

from unmask.config.schema import Config
from unmask.config.schema.introspection import declared_names, declared_settings
from unmask.config.schema.methods import ByTask, MethodBlock
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.training import Training

NAME = "NAME"  # stands for any name in a dotted path
SHOWN = 3  # places that a message names
KINDS: tuple[Literal["methods"], Literal["tasks"]] = ("methods", "tasks")  # blocks whose names are those of files
LABORATORIES = ("exact_toy", "surrogates")  # experiments with settings of their own, which are named last
GENERAL = MethodBlock.model_fields.keys() - ByTask.model_fields.keys()  # not in the blocks of scales and fidelities


def belongs(key: str, where: str) -> str:
    """Return the hint for a known key at the wrong place, such as `it belongs to scales.laptop`; "" for other keys.

    `where` is the dotted path of the block that has the key. Names in it, such as a scale's, are those of the hint.
    """
    found = [_named(place, key, where) for place in _places().get(key, [])]
    places = [place for place in dict.fromkeys(found) if place != where]
    if not places:
        return ""
    more = len(places) - SHOWN
    last = f" or {more} other {'block' if more == 1 else 'blocks'}" if more > 0 else ""
    return f"it belongs to {' or '.join(places[:SHOWN])}{last}"


def _named(place: str, key: str, where: str) -> str:
    """Return a place with the names that another path has after the same keys, in the same scale or fidelity."""
    others = where.split(".")
    is_setting = place == "training" or (place.startswith("methods.") and key not in GENERAL)
    if is_setting and others[0] in ("scales", "fidelities") and len(others) > 1:
        place = ".".join([*others[:2], place])
    parts = place.split(".")
    for i, part in enumerate(parts[1:], start=1):
        kind = parts[i - 1]
        if part == NAME and kind in others[:-1]:
            parts[i] = others[others.index(kind) + 1]
    return ".".join(parts)


@functools.cache
def _places() -> dict[str, list[str]]:
    """Return the dotted paths of the blocks that may have a key, for every key of the configuration."""
    found: dict[str, list[str]] = {}
    for place, key in _all():
        found.setdefault(key, []).append(place)
    for places in found.values():
        places.sort(key=lambda place: (place.startswith(LABORATORIES), place.count(".")))
    return found


def _all() -> Iterator[tuple[str, str]]:
    """Yield place and key of every setting; settings of methods come last, because most blocks may have them."""
    for key in Config.model_fields:
        yield "the top level", key
    for kind in KINDS:
        for name in sorted(declared_names(kind)):
            yield kind, name
    for key, field in Config.model_fields.items():
        yield from _below(field.annotation, key)
    for key in Training.model_fields:
        yield "training", key
        yield f"methods.{NAME}", key
    for key in Runtime.model_fields:
        yield f"scales.{NAME}.runtime", key
    for kind in KINDS:
        for name in sorted(declared_names(kind)):
            for key in declared_settings(kind, name).model_fields:
                yield f"{kind}.{name}", key


def _below(kind: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield place and key of the blocks that a type allows at a place."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for key, field in kind.model_fields.items():
            yield place, key
            yield from _below(field.annotation, f"{place}.{key}")
    elif origin is Annotated:
        yield from _below(arguments[0], place)
    elif origin is dict:
        yield from _below(arguments[1], f"{place}.{NAME}")
    elif origin in (typing.Union, types.UnionType):
        for one in arguments:
            yield from _below(one, place)
