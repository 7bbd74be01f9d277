"""Check of the files of methods: what a class declares is valid by itself, before a configuration uses it."""

from __future__ import annotations

import functools

from unmask.common.errors import InputError
from unmask.config.schema.introspection import (
    declared_names,
    declared_settings,
    method_class,
    method_defaults,
    method_file,
    optional,
    settings_of,
)
from unmask.config.validation.conditions import NAMES, names_in
from unmask.config.validation.messages import problems, unknown


@functools.cache
def check_method_files() -> None:
    """Raise InputError with all mistakes in the files of methods, each with its file."""
    lines: list[str] = []
    for name in sorted(declared_names("methods")):
        try:
            lines += _mistakes(name)
        except InputError as error:
            lines.append(str(error))
    if lines:
        raise InputError("\n".join(lines))


def _mistakes(name: str) -> list[str]:
    """Return a line for each wrong default, and for each unknown name in `used_if`, of a method's file."""
    block = declared_settings("methods", name)
    place = f"{method_file(name)}: {block.__name__}"
    # A setting without a default is required in config.yaml instead.
    lines = problems(optional(block), method_defaults(name), place)

    settings = settings_of(name).model_fields.keys()
    for key, condition in method_class(name).used_if.items():
        if key not in settings:
            lines.append(unknown(key, settings, f"{place}.used_if"))
        try:
            names = names_in(condition)
        except SyntaxError as error:
            lines.append(f"{place}.used_if.{key}: {condition!r} is no expression: {error.msg}; correct it")
            continue
        for other in sorted(set(names) - settings - set(NAMES)):
            lines.append(unknown(other, settings, f"{place}.used_if.{key}"))
    return lines
