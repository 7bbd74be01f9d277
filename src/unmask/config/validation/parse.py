"""Parsing of a configuration that may be wrong anywhere: the mistakes of its schema, and what it says apart from them.

A value of the wrong type reads as if it were not given, so that one mistake hides no other.
"""

from __future__ import annotations

import functools
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from unmask.config.pilot import with_pilot
from unmask.config.schema import Config
from unmask.config.validation.messages import problems

WRONG: Any = object()  # in place of a value that its type does not allow
EMPTY = {str: "", int: 0, float: 0.0, bool: False, list: [], dict: {}}


@dataclass(frozen=True)
class Parsed:
    """Configuration without its wrong values, and the lines about those."""

    config: Config
    lines: list[str]

    def is_wrong(self, path: str) -> bool:
        """Return True if a line is about the value at this path itself."""
        return any(line.startswith(f"{path}: ") for line in self.lines)


def parse(raw: Any) -> Parsed:
    """Return the configuration with its pilot scale, if that is in use, and one line per mistake in its blocks."""
    try:
        return Parsed(with_pilot(Config.model_validate(raw)), [])
    except ValidationError:
        return Parsed(with_pilot(section_from(Config, raw)), problems(Config, raw, ""))


def section_from(kind: type[Any], values: Any) -> Any:
    """Return a section without its wrong values; required ones are then empty."""
    given = values if isinstance(values, dict) else {}
    found = {}
    for name, field in kind.model_fields.items():
        value = _value(field.annotation, given[name]) if name in given else WRONG
        if value is WRONG:
            value = _empty(field.annotation) if field.is_required() else field.default
        found[name] = value

    # Blocks of methods have settings that the schema does not know.
    if kind.model_config.get("extra") == "allow":
        found = given | found
    return kind.model_construct(**found)


def _value(kind: Any, value: Any) -> Any:
    """Return a value as its type has it, without wrong parts; WRONG if nothing is left."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if _is_section(kind):
        return section_from(kind, value)
    if typing.get_origin(kind) is dict and isinstance(value, dict):
        return _entries(typing.get_args(kind)[1], value)
    if typing.get_origin(kind) is list and isinstance(value, list):
        items = [_value(typing.get_args(kind)[0], item) for item in value]
        return [item for item in items if item is not WRONG]

    members = [member for member in _alternatives(kind) if member is not types.NoneType]
    if members and (value is not None or members == _alternatives(kind)):
        return _value(_member(members, value), value)
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError:
        return WRONG


def _entries(kind: Any, block: dict[Any, Any]) -> dict[str, Any]:
    """Return the entries of a block of blocks; one that is no block still has its name."""
    found = {}
    for name, value in block.items():
        parsed = _value(kind, value)
        if parsed is not WRONG:
            found[name] = parsed
    return found


def _alternatives(kind: Any) -> list[Any]:
    """Return the types of a union; none if it is no union."""
    is_union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return list(typing.get_args(kind)) if is_union else []


def _member(members: list[Any], value: Any) -> Any:
    """Return the member of a union that a block chooses with its `rule` or `source`; the first if with none."""
    for member in members:
        for key in ("rule", "source"):
            tag = member.model_fields.get(key) if _is_section(member) else None
            if tag and isinstance(value, dict) and value.get(key) in typing.get_args(tag.annotation):
                return member
    return members[0]


def _empty(kind: Any) -> Any:
    """Return the value of a required key that is missing or wrong."""
    if _is_section(kind):
        return section_from(kind, {})
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)[0]
    return EMPTY[typing.get_origin(kind) or kind]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(strict=True))
