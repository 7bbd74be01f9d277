"""What is wrong with some values, one line for each mistake, with its dotted path and a way out."""

from __future__ import annotations

import difflib
import typing
from typing import Any

from pydantic import BaseModel, ValidationError


def problems(model: type[BaseModel], values: Any, where: str) -> list[str]:
    """Everything wrong with `values` as a `model`: one line each, with the dotted path and a way out."""
    try:
        model.model_validate(values)
    except ValidationError as errors:
        return [_one_line(model, error, where) for error in errors.errors()]
    return []


def unknown(name: str, known: Any, where: str) -> str:
    """One line for a name that is not among the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        hint = f"did you mean '{close[0]}'?"
    else:
        hint = f"known: {', '.join(names)}" if 0 < len(names) <= 12 else "remove it"
    return f"{where}: unknown '{shown(name)}'; {hint}"


def _one_line(model: type[BaseModel], error: Any, where: str) -> str:
    if error["type"] == "extra_forbidden":
        *parents, key = error["loc"]
        return unknown(str(key), _keys(model), _dotted(where, *parents))
    path = _dotted(where, *error["loc"])
    if error["type"] == "missing":
        return f"{path}: missing; add it"
    if error["type"] == "refused":
        return f"{path}: {error['msg']}"
    if error["type"] == "union_tag_invalid":  # pydantic's own message has the whole of what was given
        key, tags, given = (error["ctx"][name] for name in ("discriminator", "expected_tags", "tag"))
        name = key.strip("'")
        return f"{path}.{name}: input should be {tags}, not {cut(repr(given))}"
    message = "input should be a valid dictionary" if error["type"] == "model_type" else error["msg"]
    return f"{path}: {message[0].lower()}{message[1:]}, not {cut(repr(error['input']))}"


def _dotted(*parts: Any) -> str:
    """A path of keys; `[key]` is how pydantic says that a key itself is wrong."""
    return ".".join(shown(part) for part in parts if part not in ("", "[key]")) or "config.yaml"


def shown(name: Any) -> str:
    """A key or name in a message: as it is, unless it would break the line."""
    text = str(name)
    return cut(text if text.isprintable() else ascii(text)[1:-1])


def cut(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= 80 else f"{text[:77]}…"


def _keys(annotation: Any) -> set[str]:
    """The keys of all blocks that an annotation contains."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return set(fields).union(*(_keys(field.annotation) for field in fields.values()))
    return set().union(*(_keys(part) for part in typing.get_args(annotation)))
