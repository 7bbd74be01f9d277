"""Pilot of a scale: everything from data to a table with the scale's model and settings, at about 1 % of the cost.

It is a separate scale, named SCALE-pilot, with its own results folder.
"""

from __future__ import annotations

import copy
from typing import Any

from unmask.config.validation.safe_access import block_at, items_at

ENDING = "-pilot"
BUFFERS = 10  # with a validation after half of them
METHODS = ["base", "dmpo"]
EVALUATION = "ablations"  # one sampler


def with_pilot(raw: Any) -> Any:
    """Return the configuration with the pilot scale added, if `scale` names the pilot of an existing scale."""
    # Runs before any check, so nothing can be assumed about the types in `raw`.
    name = raw.get("scale") if isinstance(raw, dict) else None
    scale = block_at(raw, "scales", name.removesuffix(ENDING)) if isinstance(name, str) else {}
    if not scale or name in raw["scales"]:
        return raw

    made = copy.deepcopy(raw)
    made["scales"][name] = _cut(copy.deepcopy(scale), block_at(raw, "training"))
    if main := block_at(made, "experiments", "main"):
        main["evaluation"] = EVALUATION
    return made


def _cut(scale: dict[str, Any], general: dict[str, Any]) -> dict[str, Any]:
    """Reduce a scale to one seed, task and length, few buffers and two methods; wrong types are reported elsewhere."""
    tasks, lengths = items_at(scale, "tasks"), items_at(scale, "lengths")
    training = general | block_at(scale, "training")

    # Never raise a limit: a scale may have fewer buffers already, or no validation (0).
    few = {key: min(most, training[key]) for key, most in _limits().items() if isinstance(training.get(key), int)}
    scale["training"] = block_at(scale, "training") | few
    scale["seeds"] = items_at(scale, "seeds")[:1]
    scale["tasks"] = ["sudoku"] if "sudoku" in tasks else tasks[-1:]  # the papers' task that is fastest to evaluate
    scale["lengths"] = [length for length in lengths if length == training.get("generation_length")] or lengths[:1]
    scale["experiments"] = ["main"]
    scale["experiment_changes"] = block_at(scale, "experiment_changes") | {"main": {"methods": METHODS}}
    return scale


def _limits() -> dict[str, int]:
    return {"buffers": BUFFERS, "validate_every": BUFFERS // 2}
