"""Layers of settings in config.yaml: path, values and settings class of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unmask.config.schema.exact_toy import ExactToy
from unmask.config.schema.experiments import Evaluation
from unmask.config.schema.introspection import declared_names, declared_settings, settings_of
from unmask.config.schema.methods import NOT_SETTINGS
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.training import Training
from unmask.config.schema.types import Section
from unmask.config.validation.safe_access import algorithm_of, block_at, given_at, items_at, overrides, toys


def layers(raw: dict[str, Any]) -> Iterator[tuple[str, Any, type[Section]]]:
    """Yield every layer of settings as (dotted path, values, settings class)."""
    # The path is what messages name, so it must be that of the layer itself, not of what the layers merge to.
    yield "training", raw.get("training"), Training
    yield from _method_layers(raw, block_at(raw, "methods"), "methods")
    yield from _task_layers(block_at(raw, "tasks"), "tasks")

    for where, block in overrides(raw):
        yield f"{where}.training", block_at(block, "training"), Training
        yield from _method_layers(raw, block_at(block, "methods"), f"{where}.methods")
        yield from _task_layers(block_at(block, "task_settings"), f"{where}.task_settings")
        for name, values in block_at(block, "evaluations").items():
            yield f"{where}.evaluations.{name}", values, Evaluation

    for name, scale in block_at(raw, "scales").items():
        yield f"scales.{name}.runtime", block_at(scale, "runtime"), Runtime

    # A grid is checked against the experiment's methods. Where a scale changes either, the combination is new, and a
    # mistake is reported at the part that was changed.
    for name, experiment in block_at(raw, "experiments").items():
        methods, where = items_at(experiment, "methods"), f"experiments.{name}"
        yield from _grid_layers(raw, methods, block_at(experiment, "grid"), f"{where}.grid")
        for scale, block in block_at(raw, "scales").items():
            if change := block_at(block, "experiment_changes", name):
                changed = change.get("grid") is not None
                asker = f"scales.{scale}.experiment_changes.{name}" if changed else where
                grid = block_at(change if changed else experiment, "grid")
                yield from _grid_layers(raw, items_at(change, "methods") or methods, grid, f"{asker}.grid")

    yield from _toy_layers(raw)


def _method_layers(raw: dict[str, Any], blocks: dict[str, Any], where: str) -> Iterator[tuple[str, Any, type[Section]]]:
    for method, values in blocks.items():
        if algorithm_of(raw, method) in declared_names("methods") and isinstance(values, dict):
            block = settings_of(algorithm_of(raw, method))

            # Fidelities and scales must not change the algorithm of a method or what it starts from.
            overriding = ("corpus", "by_task", "task_settings")
            others = NOT_SETTINGS if where == "methods" else overriding
            yield f"{where}.{method}", {k: v for k, v in values.items() if k not in others}, block
            for task, by_task in block_at(values, "by_task").items():
                yield f"{where}.{method}.by_task.{task}", by_task, block
            yield from _task_layers(block_at(values, "task_settings"), f"{where}.{method}.task_settings")


def _task_layers(blocks: dict[str, Any], where: str) -> Iterator[tuple[str, Any, type[Section]]]:
    for task, values in blocks.items():
        if task in declared_names("tasks"):
            yield f"{where}.{task}", values, declared_settings("tasks", task)


def _grid_layers(
    raw: dict[str, Any], methods: list[Any], grid: dict[str, Any], where: str
) -> Iterator[tuple[str, Any, type[Section]]]:
    """Yield each value of each axis with the settings class of every method that has the setting."""
    algorithms = [algorithm_of(raw, method) for method in methods]
    algorithms = [algorithm for algorithm in algorithms if algorithm in declared_names("methods")]
    for key, choices in grid.items():
        # A key that no method has is checked against the first method, which reports it as unknown.
        owners = [a for a in algorithms if key in settings_of(a).model_fields] or algorithms[:1]
        for owner in owners if isinstance(choices, list) else ():
            yield from ((where, {key: choice}, settings_of(owner)) for choice in choices)


def _toy_layers(raw: dict[str, Any]) -> Iterator[tuple[str, Any, type[Section]]]:
    """Yield the method settings of the exact toy, then the toy blocks of the scales."""
    # The toy has its own training loop: only settings declared by the method apply, none of Training.
    for where, toy in toys(raw):
        changes = [(f"{where}.methods.{method}", method, block) for method, block in block_at(toy, "methods").items()]
        for name, curve in block_at(toy, "curves").items():
            for method in given_at(curve, "method"):
                own = {key: value for key, value in curve.items() if key != "method"}
                changes.append((f"{where}.curves.{name}.{method}", method, own))
        for place, method, block in changes:
            if algorithm_of(raw, method) in declared_names("methods") and isinstance(block, dict):
                yield place, block, declared_settings("methods", algorithm_of(raw, method))

    # The general toy block is part of Config and checked there.
    for where, toy in list(toys(raw))[1:]:
        yield where, toy, ExactToy
