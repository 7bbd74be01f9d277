"""Pilot of a scale: everything from data to a table with the scale's model and settings, at about 1 % of the cost.

It is a separate scale, named SCALE-pilot, with its own results folder.
"""

from __future__ import annotations

from unmask.config.schema import Config
from unmask.config.schema.scales import ExperimentChange, Scale
from unmask.config.schema.types import Values

ENDING = "-pilot"
BUFFERS = 10  # with a validation after half of them
LIMITS = {"buffers": BUFFERS, "validate_every": BUFFERS // 2}
METHODS = ["base", "dmpo"]
EVALUATION = "ablations"  # one sampler


def scale_of_pilot(config: Config) -> str | None:
    """Return the scale whose pilot is in use; None if another scale is."""
    base = config.scale.removesuffix(ENDING)
    return base if base != config.scale and base in config.scales else None


def with_pilot(config: Config) -> Config:
    """Return the configuration with the pilot scale added, if `scale` names the pilot of an existing scale."""
    base = scale_of_pilot(config)
    if base is None or config.scale in config.scales:
        return config

    scales = config.scales | {config.scale: _cut(config.scales[base], config.training)}
    experiments = dict(config.experiments)
    if "main" in experiments:
        experiments["main"] = experiments["main"].model_copy(update={"evaluation": EVALUATION})
    return config.model_copy(update={"scales": scales, "experiments": experiments})


def _cut(scale: Scale, general: Values) -> Scale:
    """Reduce a scale to one seed, task and length, few buffers and two methods; wrong types are reported elsewhere."""
    training = general | scale.training
    few = dict(scale.training)
    for key, most in LIMITS.items():
        value = training.get(key)
        # Never raise a limit: a scale may have fewer buffers already, or no validation (0).
        if isinstance(value, int):
            few[key] = min(most, value)

    # Sudoku is the papers' task that is fastest to evaluate.
    tasks = ["sudoku"] if "sudoku" in scale.tasks else scale.tasks[-1:]
    lengths = [length for length in scale.lengths if length == training.get("generation_length")]
    return scale.model_copy(
        update={
            "training": few,
            "seeds": scale.seeds[:1],
            "tasks": tasks,
            "lengths": lengths or scale.lengths[:1],
            "experiments": ["main"],
            "experiment_changes": scale.experiment_changes | {"main": ExperimentChange(methods=METHODS)},
        }
    )
