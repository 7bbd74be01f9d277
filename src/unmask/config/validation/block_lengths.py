"""Checks of generation lengths: they must be multiples of the block of semi-autoregressive decoding."""

from __future__ import annotations

from typing import Any

from unmask.config.schema import Config
from unmask.config.validation.layers import layers

LENGTH = "generation_length"  # setting of Training


def wrong_lengths(config: Config) -> list[str]:
    """Return a line for each length that is not a multiple of its scale's block length."""
    lines = []
    for name, scale in config.scales.items():
        for length in scale.lengths:
            lines += _no_multiple(length, scale.block_length, f"scales.{name}.lengths")

    for layer in layers(config):
        # Layers outside of `scales` apply to every scale; they are checked against the one in use.
        kind, _, rest = layer.where.partition(".")
        name = config.scale
        if kind == "scales":
            name, _, _ = rest.partition(".")
        given = layer.values.get(LENGTH)
        if name in config.scales:
            lines += _no_multiple(given, config.scales[name].block_length, f"{layer.where}.{LENGTH}")
    return lines


def _no_multiple(length: Any, block: int, where: str) -> list[str]:
    """Return a line if a length is not a multiple of the block; what is no length is reported elsewhere."""
    if block <= 0 or not isinstance(length, int) or length % block == 0:
        return []
    near = max(1, round(length / block)) * block
    return [f"{where}: {length} is not a multiple of block_length {block}; try {near}"]
