"""Conditions of settings: what a setting needs to have an effect, as an expression of other settings."""

from __future__ import annotations

import ast
import functools
from types import CodeType
from typing import Any

from unmask.config.schema import Config
from unmask.config.schema.introspection import declared_names, method_class
from unmask.config.schema.training import USED_IF
from unmask.config.schema.types import Values

# Values that switch a setting off, besides zero, False, nothing and "none". To say so once more is harmless.
OFF = {"reference_mix": 1.0, "mask_padding": True, "right_share": 1.0}
# Names in conditions besides settings; Effective gives them their values.
NAMES = ("start_from", "corpus", "trains_head", "rule")
# Conditions that are not about settings alone, in words.
WORDS = {
    "start_from": "the method has a start_from",
    "not corpus": "the method learns no corpus",
    "trains_head and rule == 'adaptive'": "the method trains the head of a sampler with rule: adaptive",
}


def trains(config: Config, method: str) -> bool:
    """Return True if a method has a block and an algorithm that trains."""
    return method in config.methods and config.algorithm(method) in declared_names("methods") - {"base"}


def conditions_of(config: Config, method: str) -> dict[str, str]:
    """Return what the settings of a method need; what its own file says comes first."""
    conditions: dict[str, str] = USED_IF | method_class(config.algorithm(method)).used_if
    return conditions


def names_in(condition: str) -> tuple[str, ...]:
    """Return the names that an expression uses."""
    return _compiled(condition)[1]


def holds(condition: str, values: Values) -> bool:
    """Return True if a condition is met, or cannot be evaluated: a wrong value is reported elsewhere."""
    try:
        return bool(eval(_compiled(condition)[0], {"__builtins__": {}}, values))  # noqa: S307 (our own)
    except (NameError, TypeError, KeyError, ValueError, ArithmeticError):
        return True


@functools.cache
def _compiled(condition: str) -> tuple[CodeType, tuple[str, ...]]:
    tree = ast.parse(condition, mode="eval")
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return compile(tree, condition, "eval"), tuple(names)


def is_off(key: str, value: Any) -> bool:
    """Return True if a value switches its setting off."""
    return not value or value == "none" or value == OFF.get(key)


def not_used(place: str, condition: str) -> str:
    """Return the line for a setting without effect."""
    if condition == "False":
        return f"{place}: has no effect: the method does not use it; remove it"
    return f"{place}: has no effect: it is used only if {WORDS.get(condition, condition)}; remove it, or change that"
