"""Validation of config.yaml: all mistakes found in one pass and reported in one message.

Blocks are checked one by one and independently, so that a broken block hides no mistake in another. Only if each is
valid are they checked against each other (`check_scale`); merged settings are checked last (grid/consistency.py).
"""

from __future__ import annotations

from typing import Any

from unmask.config.errors import ConfigError
from unmask.config.pilot import scale_of_pilot
from unmask.config.schema import Config
from unmask.config.schema.introspection import optional
from unmask.config.validation.block_lengths import wrong_lengths
from unmask.config.validation.layers import layers
from unmask.config.validation.messages import problems
from unmask.config.validation.method_files import check_method_files
from unmask.config.validation.parse import Parsed, parse
from unmask.config.validation.references import wrong_names
from unmask.config.validation.required import missing
from unmask.config.validation.scale_in_use import misfits
from unmask.config.validation.unused import unused


def check(raw: Any) -> tuple[Config, list[str]]:
    """Check the blocks of a (normalised) configuration; mistakes in scales that are not in use are only warnings.

    Returns the configuration without broken other scales, and the mistakes in them. Raises ConfigError for all others,
    and InputError for mistakes in the files of methods.
    """
    check_method_files()
    parsed = parse(raw)
    idle = unused(parsed.config) if isinstance(raw, dict) else []
    lines = list(dict.fromkeys(_mistakes(raw, parsed) + idle))
    if not lines:
        return parsed.config, []

    # Drop broken scales that are not in use and check again: what remains must be valid without them.
    others = parsed.config.scales.keys() - {parsed.config.scale, scale_of_pilot(parsed.config)}
    broken = {name for name in others if any(_is_about(line, name) for line in lines)}
    # A setting that only a broken scale uses is no mistake, so effects are looked for with all scales.
    counting = [line for line in idle if not any(_is_about(line, name) for name in broken)]
    if broken and not counting:
        kept = {name: scale for name, scale in raw["scales"].items() if name not in broken}
        without = parse(raw | {"scales": kept})
        if not _mistakes(raw, without):
            return without.config, lines

    # With a mistake that counts, report all of them, also those in other scales.
    raise ConfigError(lines)


def _is_about(line: str, scale: str) -> bool:
    """Return True if a line is about the block of a scale."""
    return line.startswith((f"scales.{scale}.", f"scales.{scale}:"))


def _mistakes(raw: Any, parsed: Parsed) -> list[str]:
    """Return one line per mistake in the blocks."""
    lines = list(parsed.lines)
    if not isinstance(raw, dict):
        return lines

    # The schema does not know which settings a method or task has, so layers of settings are checked separately.
    lines += wrong_names(parsed)
    for layer in layers(parsed.config):
        lines += problems(optional(layer.block), layer.values, layer.where)
    lines += missing(parsed)
    lines += wrong_lengths(parsed.config)
    return list(dict.fromkeys(lines))


def check_scale(config: Config) -> None:
    """Raise ConfigError if valid blocks do not fit together at the scale in use."""
    lines = misfits(config)
    if lines:
        raise ConfigError(lines)
