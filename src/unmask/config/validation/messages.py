"""Wording of mistakes: one line each, with the dotted path of the key and how to fix it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from unmask.config.renames import RENAMED, TO_RUNTIME
from unmask.config.validation.places import belongs


def problems(model: type[BaseModel], values: Any, where: str) -> list[str]:
    """Return one line per error of validating `values` as a `model`; `where` is the dotted path of the block."""
    try:
        model.model_validate(values)
    except ValidationError as errors:
        return [_one_line(model, error, where) for error in errors.errors()]
    return []


def mistakes(errors: ValidationError, where: str) -> list[str]:
    """Return one line per error in the block at `where` of a spec."""
    lines = []
    for error in errors.errors():
        # Nobody writes specs, so no other name is suggested.
        if error["type"] == "extra_forbidden":
            *parents, key = error["loc"]
            lines.append(f"{_dotted(where, *parents)}: unknown '{shown(key)}'")
        else:
            lines.append(_one_line(BaseModel, error, where))
    return lines


def unknown(name: str, known: Iterable[str], where: str, is_key: bool = False) -> str:
    """Return the line for an unknown name, with its new name, the closest known name or a short list of all.

    A key may also belong to another block.
    """
    names = sorted(set(known) - {name})
    if RENAMED.get(name) in names:
        return f"{where}: '{name}' has been renamed; write '{RENAMED[name]}' (CHANGELOG.md, Upgrade)"
    # Only blocks with the settings of `training` have ever had such a key.
    if name in TO_RUNTIME and set(RENAMED.values()) <= set(names):
        return f"{where}: '{name}' has moved; set it in `runtime`, or in that of a scale (CHANGELOG.md, Upgrade)"
    # YAML reads `{alpha:1}` as a key without a value.
    if ":" in name:
        return f"{where}: unknown '{shown(name)}'; write a space after the colon"
    elsewhere = belongs(name, where) if is_key else ""
    # A known key is rarely a misspelling of another one.
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.85 if elsewhere else 0.6)
    if close:
        hint = f"did you mean '{close[0]}'?"
    elif elsewhere:
        hint = elsewhere
    elif 0 < len(names) <= 12:
        hint = f"known: {', '.join(names)}"
    else:
        hint = "remove it"
    return f"{where}: unknown '{shown(name)}'; {hint}"


def _one_line(model: type[BaseModel], error: Any, where: str) -> str:
    # pydantic locates an unknown key below its block; the line should name the block and the closest key.
    if error["type"] == "extra_forbidden":
        *parents, key = error["loc"]
        return unknown(str(key), _keys(model, parents), _dotted(where, *parents), is_key=True)

    path = _dotted(where, *error["loc"])
    if error["type"] == "missing":
        return f"{path}: missing; add it"
    if error["type"] == "refused":
        return f"{path}: {error['msg']}"

    # pydantic's own message would quote the given value in full, however long.
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        name = context["discriminator"].strip("'")
        given = cut(repr(context["tag"]))
        return f"{path}.{name}: input should be {context['expected_tags']}, not {given}"

    # For a block that is no mapping pydantic would name the Python class, which means nothing to users.
    message = error["msg"]
    if error["type"] == "model_type":
        message = "Input should be a valid dictionary"
    first, rest = message[0].lower(), message[1:]
    given = cut(repr(error["input"]))
    return f"{path}: {first}{rest}, not {given}"


def _dotted(*parts: Any) -> str:
    """Join keys to a dotted path, `config.yaml` if there are none."""
    # pydantic appends `[key]` to the location if the key itself is invalid.
    named = [shown(part) for part in parts if part not in ("", "[key]")]
    return ".".join(named) or "config.yaml"


def shown(name: Any) -> str:
    """Return a key or name for a message: unchanged if printable, else escaped; at most 80 characters."""
    text = str(name)
    if not text.isprintable():
        text = ascii(text)[1:-1]
    return cut(text)


def cut(text: str) -> str:
    """Return the text, shortened to 80 characters if longer."""
    return text if len(text) <= 80 else f"{text[:77]}…"


def _keys(model: type[BaseModel], path: Sequence[Any]) -> set[str]:
    """Return the keys that the block at a path in a model may have."""
    kinds: list[Any] = [model]
    for key in path:
        kinds = [inner for kind in kinds for inner in _below(kind, key)]
    found: set[str] = set()
    for kind in kinds:
        found |= _own_keys(kind)
    return found


def _own_keys(kind: Any) -> set[str]:
    """Return the keys of a block; of all alternatives if there are several."""
    if _is_block(kind):
        return set(kind.model_fields)
    if typing.get_origin(kind) in (dict, list):
        return set()
    found: set[str] = set()
    for part in typing.get_args(kind):
        found |= _own_keys(part)
    return found


def _below(kind: Any, key: Any) -> list[Any]:
    """Return the types that one part of the location of an error leads to."""
    if _is_block(kind):
        return [kind.model_fields[key].annotation] if key in kind.model_fields else []
    parts = typing.get_args(kind)
    if typing.get_origin(kind) in (dict, list):
        return [parts[-1]]
    # pydantic locates the chosen member of a union by the value of its `rule` or `source`.
    chosen = [part for part in parts if _is_block(part) and _is_tag(part, key)]
    if chosen:
        return chosen
    return [inner for part in parts for inner in _below(part, key)]


def _is_block(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_tag(block: type[BaseModel], name: Any) -> bool:
    """Return True if a union chooses the block by this name."""
    tags = [block.model_fields[key] for key in ("rule", "source") if key in block.model_fields]
    return any(name in typing.get_args(tag.annotation) for tag in tags)
