"""Check for missing settings: those that no layer sets for the methods and tasks of the scale in use."""

from __future__ import annotations

from unmask.config.renames import current_name
from unmask.config.schema import Config, merged
from unmask.config.schema.introspection import declared_names, declared_settings, settings_of
from unmask.config.schema.training import Training
from unmask.config.schema.types import Values
from unmask.config.validation.layers import toy_in_use, trainers
from unmask.config.validation.parse import Parsed


def missing(parsed: Parsed) -> list[str]:
    """Return one line per missing setting, sorted."""
    return sorted(_of_methods(parsed) + _of_curves(parsed) + _of_tasks(parsed.config))


def _of_methods(parsed: Parsed) -> list[str]:
    """Return lines on missing settings of methods, including those of Training."""
    config = parsed.config
    lines = []
    for method in config.methods:
        if parsed.is_wrong(f"methods.{method}"):
            continue
        for algorithm in trainers(config, [method]):
            # Training settings may also be set in method blocks; what one task alone has does not count.
            # An old name has its own line, so the new one counts as present; a method may have a setting of that name.
            keys = merged(config.layers_of(method, task="")).keys()
            known = settings_of(algorithm).model_fields
            given = {key if key in known else current_name(key) for key in keys}
            # A broken `training` block has its own line, so its keys count as present.
            if parsed.is_wrong("training"):
                given |= Training.model_fields.keys()
            for key in known.keys() - given:
                where = "training" if key in Training.model_fields else f"methods.{method}"
                lines.append(f"{where}.{key}: missing; add it")
    return lines


def _of_curves(parsed: Parsed) -> list[str]:
    """Return lines on missing method settings of the exact toy's curves."""
    config = parsed.config
    toy = toy_in_use(config)
    lines = []
    for curve in toy.curves.values():
        if curve.method not in config.methods or parsed.is_wrong(f"methods.{curve.method}"):
            continue
        for algorithm in trainers(config, [curve.method]):
            given = config.curve_settings(toy, curve)
            for key in declared_settings("methods", algorithm).model_fields.keys() - given.keys():
                lines.append(f"methods.{curve.method}.{key}: missing; add it")
    return lines


def _of_tasks(config: Config) -> list[str]:
    """Return lines on missing settings of tasks that the scale, an experiment or a method uses."""
    # Only tasks in use are checked: another fidelity or scale may complete the others.
    asked: set[str] = set()
    if config.scale in config.scales:
        asked.update(config.scales[config.scale].tasks)
    for experiment in config.experiments:
        asked.update(config.tasks_of(experiment), config.experiments[experiment].tasks or [])
    for method in config.methods:
        if corpus := config.corpus(method):
            asked.add(corpus)

    lines = []
    for task in declared_names("tasks") & asked & config.tasks.keys():
        given: Values = merged(config.task_layers_of(task))
        for key in declared_settings("tasks", task).model_fields.keys() - given.keys():
            lines.append(f"tasks.{task}.{key}: missing; add it")
    return lines
