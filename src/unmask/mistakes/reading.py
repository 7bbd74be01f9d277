"""Looking into a configuration that may be wrong anywhere.

What is absent, or not what it should be, reads as empty: that it is wrong is said elsewhere, by `problems`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def block_at(values: Any, *keys: str) -> dict[str, Any]:
    """A block in a block in …; empty where it is absent or no mapping."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def items_at(values: Any, key: str) -> list[Any]:
    """A list; empty where it is absent or no list."""
    found = values.get(key) if isinstance(values, dict) else None
    return [item for item in found if isinstance(item, str | int)] if isinstance(found, list) else []


def given_at(values: Any, key: str) -> list[Any]:
    """A single value as a list, empty where it is absent."""
    return [values[key]] if isinstance(values, dict) and isinstance(values.get(key), str | int) else []


def algorithm_of(raw: dict[str, Any], method: str) -> str:
    """The file of a method: its own name unless its block names another."""
    return str((given_at(block_at(raw, "methods", method), "algorithm") or [method])[0])


def overrides(raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The blocks that override others: fidelities and scales."""
    for kind in ("fidelities", "scales"):
        for name, block in block_at(raw, kind).items():
            yield f"{kind}.{name}", block


def toys(raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The exact laboratory's block and what scales put in its place."""
    yield "exact_toy", block_at(raw, "exact_toy")
    for name, scale in block_at(raw, "scales").items():
        yield f"scales.{name}.exact_toy", block_at(scale, "exact_toy")
