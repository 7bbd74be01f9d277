"""Checks of generation lengths: they must be multiples of the block of semi-autoregressive decoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unmask.config.validation.layers import layers
from unmask.config.validation.safe_access import block_at, given_at, items_at


def wrong_lengths(raw: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each length that is not a multiple of its scale's block length."""
    scales = block_at(raw, "scales")
    for name, scale in scales.items():
        where, block = f"scales.{name}.lengths", block_at(scales, name).get("block_length")
        yield from _no_multiples(items_at(scale, "lengths"), block, where)

    # Layers outside of `scales` apply to every scale; they are checked against the one in use.
    for where, values, _ in layers(raw):
        kind, _, rest = where.partition(".")
        scale = block_at(scales, rest.partition(".")[0] if kind == "scales" else str(raw.get("scale")))
        lengths = given_at(values, "generation_length")
        yield from _no_multiples(lengths, scale.get("block_length"), f"{where}.generation_length")


def _no_multiples(lengths: list[Any], block: Any, where: str) -> Iterator[str]:
    if isinstance(block, int) and block > 0:
        for length in lengths:
            if isinstance(length, int) and length % block:
                near = max(1, round(length / block)) * block
                yield f"{where}: {length} is not a multiple of block_length {block}; try {near}"
