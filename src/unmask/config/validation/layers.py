"""Layers of settings in config.yaml: path, values and settings class of each.

The path is what messages name, so it is that of the layer itself, not of what the layers merge to.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from unmask.config.schema import Config
from unmask.config.schema.exact_toy import Curve, ExactToy
from unmask.config.schema.experiments import Evaluation
from unmask.config.schema.introspection import declared_names, declared_settings, narrow_settings, settings_of
from unmask.config.schema.methods import ByTask
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.scales import Overrides
from unmask.config.schema.training import Training
from unmask.config.schema.types import Section, Values
from unmask.config.validation.parse import section_from


class Layer(NamedTuple):
    """Settings given at one place, to be checked as an instance of their class with every key optional."""

    where: str
    values: Values
    block: type[Section]


def layers(config: Config) -> Iterator[Layer]:
    """Yield every layer of settings."""
    yield Layer("training", config.training, Training)
    yield from _method_layers(config, config.methods, "methods")
    yield from _task_layers(config.tasks, "tasks")

    for where, block in overrides(config):
        yield Layer(f"{where}.training", block.training, Training)
        yield from _method_layers(config, block.methods, f"{where}.methods")
        yield from _task_layers(block.task_settings, f"{where}.task_settings")
        for name, values in block.evaluations.items():
            yield Layer(f"{where}.evaluations.{name}", values, Evaluation)

    for name, scale in config.scales.items():
        yield Layer(f"scales.{name}.runtime", scale.runtime, Runtime)
    yield from _grid_layers(config)
    yield from _candidate_layers(config)
    yield from _toy_layers(config)


def overrides(config: Config) -> Iterator[tuple[str, Overrides]]:
    """Yield the overriding blocks, fidelities and then scales, as (dotted path, block)."""
    for name, fidelity in config.fidelities.items():
        yield f"fidelities.{name}", fidelity
    for name, scale in config.scales.items():
        yield f"scales.{name}", scale


def trainers(config: Config, methods: Iterable[str]) -> list[str]:
    """Return the algorithms of those methods that have a file."""
    found = []
    for method in methods:
        algorithm = config.algorithm(method)
        if algorithm in declared_names("methods"):
            found.append(algorithm)
    return found


def _method_layers(config: Config, blocks: Mapping[str, ByTask], where: str) -> Iterator[Layer]:
    for method, block in blocks.items():
        place = f"{where}.{method}"
        for algorithm in trainers(config, [method]):
            settings = settings_of(algorithm)
            yield Layer(place, block.settings, settings)
            for task, values in block.by_task.items():
                yield Layer(f"{place}.by_task.{task}", values, settings)
            yield from _task_layers(block.task_settings, f"{place}.task_settings")


def _task_layers(blocks: dict[str, Values], where: str) -> Iterator[Layer]:
    for task, values in blocks.items():
        if task in declared_names("tasks"):
            yield Layer(f"{where}.{task}", values, declared_settings("tasks", task))


def _grid_layers(config: Config) -> Iterator[Layer]:
    # A grid is checked against the experiment's methods. Where a scale changes either, the combination is new, and a
    # mistake is reported at the part that was changed.
    for name, experiment in config.experiments.items():
        own = f"experiments.{name}.grid"
        tasks = experiment.tasks or list(config.tasks)
        yield from _axes(config, experiment.methods, tasks, experiment.grid, own)
        for scale, block in config.scales.items():
            change = block.experiment_changes.get(name)
            if change is None:
                continue
            methods = change.methods or experiment.methods
            if change.grid is None:
                yield from _axes(config, methods, change.tasks or tasks, experiment.grid, own)
            else:
                place = f"scales.{scale}.experiment_changes.{name}.grid"
                yield from _axes(config, methods, change.tasks or tasks, change.grid, place)


def _axes(
    config: Config, methods: list[str], tasks: list[str], grid: dict[str, list[Any]], where: str
) -> Iterator[Layer]:
    """Yield each value of each axis with the settings class of every method, or task's reward, that has the setting."""
    algorithms = trainers(config, methods)
    for key, choices in grid.items():
        blocks = [settings_of(algorithm) for algorithm in algorithms]
        owners = [block for block in blocks if key in block.model_fields]
        owners += [declared_settings("tasks", task) for task in _rewarded(tasks, key)]
        # A key that no method has is checked against the method with the most similar key, which is then suggested.
        for owner in owners or sorted(blocks, key=lambda block: -_likeness(key, block))[:1]:
            for choice in choices:
                yield Layer(where, {key: choice}, owner)


def _rewarded(tasks: list[str], key: str) -> list[str]:
    """Return the tasks whose reward has a setting of this name."""
    known = [task for task in tasks if task in declared_names("tasks")]
    return [task for task in known if key in narrow_settings(task)["reward_only"]]


def _likeness(key: str, block: type[Section]) -> float:
    """Return how much the most similar key of a block is like a key, 1 for an equal one."""
    return max((difflib.SequenceMatcher(a=name, b=key).ratio() for name in block.model_fields), default=0.0)


def _candidate_layers(config: Config) -> Iterator[Layer]:
    """Yield the candidates of each scale's tuning."""
    for name, scale in config.scales.items():
        for block in scale.tuning.blocks if scale.tuning else []:
            place = f"scales.{name}.tuning.{block.place}.settings"
            for algorithm in trainers(config, [block.method]):
                for settings in block.candidates.settings:
                    yield Layer(place, settings, settings_of(algorithm))


def _toy_layers(config: Config) -> Iterator[Layer]:
    """Yield the method settings of the exact toy, then the toy blocks of the scales."""
    for where, methods, curves in toys(config):
        for method, values in methods.items():
            yield from _own_settings(config, method, values, f"{where}.methods.{method}")
        for name, curve in curves.items():
            yield from _own_settings(config, curve.method, curve.settings, f"{where}.curves.{name}.{curve.method}")

    # The general toy block is part of Config and checked there.
    for name, scale in config.scales.items():
        yield Layer(f"scales.{name}.exact_toy", scale.exact_toy, ExactToy)


def _own_settings(config: Config, method: str, values: Values, place: str) -> Iterator[Layer]:
    """Yield a layer of settings that the method's file declares."""
    # The toy has its own training loop, so no setting of Training applies.
    for algorithm in trainers(config, [method]):
        yield Layer(place, values, declared_settings("methods", algorithm))


def toy_in_use(config: Config) -> ExactToy:
    """Return the exact toy with the methods and curves of the scale in use."""
    if config.scale not in config.scales:
        return config.exact_toy
    given = config.scales[config.scale].exact_toy
    change: ExactToy = section_from(ExactToy, given)
    found: Values = {key: getattr(change, key) for key in ("methods", "curves") if key in given}
    return config.exact_toy.model_copy(update=found)


def toys(config: Config) -> Iterator[tuple[str, dict[str, Values], dict[str, Curve]]]:
    """Yield path, methods and curves of the exact toy, and of its overrides in scales."""
    yield "exact_toy", config.exact_toy.methods, config.exact_toy.curves
    for name, scale in config.scales.items():
        toy: ExactToy = section_from(ExactToy, scale.exact_toy)
        yield f"scales.{name}.exact_toy", toy.methods, toy.curves
