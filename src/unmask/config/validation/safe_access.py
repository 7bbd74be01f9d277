"""Tolerant access to a configuration that may be wrong anywhere.

Values that are absent or of the wrong type read as empty; `problems` reports them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def block_at(values: Any, *keys: str) -> dict[str, Any]:
    """Return the block at a path of keys; empty if it is absent or not a mapping."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}


def items_at(values: Any, key: str) -> list[Any]:
    """Return the strings and integers of a list; empty if it is absent or not a list."""
    # Other items cannot be names, and callers put them into sets, where lists and mappings would fail.
    found = values.get(key) if isinstance(values, dict) else None
    return [item for item in found if isinstance(item, str | int)] if isinstance(found, list) else []


def given_at(values: Any, key: str) -> list[Any]:
    """Return a single string or integer as a list; empty if it is absent or of another type."""
    return [values[key]] if isinstance(values, dict) and isinstance(values.get(key), str | int) else []


def algorithm_of(raw: dict[str, Any], method: str) -> str:
    """Return the name of a method's file: `algorithm` of its block, else the method's own name."""
    return str((given_at(block_at(raw, "methods", method), "algorithm") or [method])[0])


def overrides(raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the overriding blocks, fidelities and then scales, as (dotted path, block)."""
    for kind in ("fidelities", "scales"):
        for name, block in block_at(raw, kind).items():
            yield f"{kind}.{name}", block


def toys(raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the exact toy's block and its overrides in scales, as (dotted path, block)."""
    yield "exact_toy", block_at(raw, "exact_toy")
    for name, scale in block_at(raw, "scales").items():
        yield f"scales.{name}.exact_toy", block_at(scale, "exact_toy")
