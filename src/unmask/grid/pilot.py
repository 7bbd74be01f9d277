"""The pilot of a scale: the whole way from data to a table with its model and settings, at a hundredth of the price.

It is a scale of its own with results of its own, called like the scale with `-pilot` behind it.
"""

from __future__ import annotations

import copy
from typing import Any

from unmask.mistakes.reading import block_at, items_at

ENDING = "-pilot"
BUFFERS = 10  # and a look at the validation split after half of them
METHODS = ["base", "dmpo"]
EVALUATION = "ablations"  # one sampler


def with_pilot(raw: Any) -> Any:
    """The configuration with the scale that it asks for, if that is the pilot of one that it has."""
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
    """One seed, one task, one length, few buffers and two methods. What is no list or number is refused elsewhere."""
    tasks, lengths = items_at(scale, "tasks"), items_at(scale, "lengths")
    training = general | block_at(scale, "training")
    few = {key: min(most, training[key]) for key, most in _limits().items() if isinstance(training.get(key), int)}
    scale["training"] = block_at(scale, "training") | few
    scale["seeds"] = items_at(scale, "seeds")[:1]
    scale["tasks"] = ["sudoku"] if "sudoku" in tasks else tasks[-1:]  # of the papers' tasks the quickest to evaluate
    scale["lengths"] = [length for length in lengths if length == training.get("generation_length")] or lengths[:1]
    scale["experiments"] = ["main"]
    scale["experiment_changes"] = block_at(scale, "experiment_changes") | {"main": {"methods": METHODS}}
    return scale


def _limits() -> dict[str, int]:
    return {"buffers": BUFFERS, "validate_every": BUFFERS // 2}
