"""Everything that can be wrong with config.yaml, found in one pass and said in one message.

The blocks are checked one by one and never through each other, so that one broken block hides no mistake in another.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unmask.settings import (
    LIBRARY,
    Block,
    Config,
    Training,
    declared_settings,
    optional,
    problems,
    settings_of,
    unknown,
)


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, one line each."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = list(dict.fromkeys(lines))
        count = f"{len(self.lines)} mistake{'s' if len(self.lines) > 1 else ''}"
        super().__init__("\n".join([f"config.yaml has {count}:", *(f"  - {line}" for line in self.lines)]))


def check(raw: dict[str, Any]) -> None:
    """Raise ConfigError if anything in the (normalised) configuration is wrong."""
    lines = problems(Config, raw, "")
    lines += _wrong_names(raw)
    for where, values, block in _layers(raw):
        lines += problems(optional(block), values, where)
    lines += _missing(raw) + _wrong_lengths(raw)
    if lines:
        raise ConfigError(lines)


def _wrong_names(raw: dict[str, Any]) -> list[str]:
    """Names that stand for nothing."""
    found: list[str] = []

    def look(names: list[Any], known: Any, where: str) -> None:
        found.extend(unknown(str(name), known, where) for name in names if name not in known)

    methods, tasks, samplers = (_block(raw, key) for key in ("methods", "tasks", "samplers"))
    look([raw.get("scale")], _block(raw, "scales"), "scale")
    look(list(methods), _files("methods"), "methods")
    look(list(tasks), _files("tasks"), "tasks")
    for name, evaluation in _block(raw, "evaluations").items():
        look(_items(evaluation, "samplers"), samplers, f"evaluations.{name}.samplers")
    for name, scale in _block(raw, "scales").items():
        look(_given(scale, "model"), _block(raw, "models"), f"scales.{name}.model")
        look(_items(scale, "tasks"), tasks, f"scales.{name}.tasks")
        look(_items(scale, "experiments"), _block(raw, "experiments"), f"scales.{name}.experiments")
        look(list(_block(scale, "methods")), methods, f"scales.{name}.methods")
        look(list(_block(scale, "task_settings")), tasks, f"scales.{name}.task_settings")
    for name, experiment in _block(raw, "experiments").items():
        look(_items(experiment, "methods"), methods, f"experiments.{name}.methods")
        look(_items(experiment, "tasks"), tasks, f"experiments.{name}.tasks")
        look(_given(experiment, "evaluation"), _block(raw, "evaluations"), f"experiments.{name}.evaluation")
    for where, values, _ in _layers(raw):
        look(_given(values, "sampler"), samplers, f"{where}.sampler")
    return found


def _layers(raw: dict[str, Any]) -> Iterator[tuple[str, Any, type[Block]]]:
    """Every block of settings: where it stands, its values and what it may hold."""
    yield "training", raw.get("training"), Training
    yield from _method_layers(_block(raw, "methods"), "methods")
    for task, values in _block(raw, "tasks").items():
        if task in _files("tasks"):
            yield f"tasks.{task}", values, declared_settings("tasks", task)
    for name, scale in _block(raw, "scales").items():
        yield f"scales.{name}.training", _block(scale, "training"), Training
        yield from _method_layers(_block(scale, "methods"), f"scales.{name}.methods")
        for task, values in _block(scale, "task_settings").items():
            if task in _files("tasks"):
                yield f"scales.{name}.task_settings.{task}", values, declared_settings("tasks", task)
    for name, experiment in _block(raw, "experiments").items():
        methods = [m for m in _items(experiment, "methods") if m in _files("methods")]
        for key, choices in _block(experiment, "grid").items():
            owners = [m for m in methods if key in settings_of(m).model_fields] or methods
            for choice in choices if isinstance(choices, list) else []:
                for method in owners[:1]:
                    yield f"experiments.{name}.grid", {key: choice}, settings_of(method)


def _method_layers(blocks: dict[str, Any], where: str) -> Iterator[tuple[str, Any, type[Block]]]:
    for method, values in blocks.items():
        if method in _files("methods") and isinstance(values, dict):
            yield f"{where}.{method}", {k: v for k, v in values.items() if k != "by_task"}, settings_of(method)
            for task, by_task in _block(values, "by_task").items():
                yield f"{where}.{method}.by_task.{task}", by_task, settings_of(method)


def _missing(raw: dict[str, Any]) -> list[str]:
    """Settings that no layer gives, for the methods and tasks of the scale in use."""
    name = raw.get("scale")
    scale = _block(_block(raw, "scales"), str(name))
    common = {*_block(raw, "training"), *_block(scale, "training")}
    found: list[str] = []
    for method in _files("methods") & set(_block(raw, "methods")):
        given = common | {*_block(_block(raw, "methods"), method), *_block(_block(scale, "methods"), method)}
        for key in settings_of(method).model_fields.keys() - given:
            where = "training" if key in Training.model_fields else f"methods.{method}"
            found.append(f"{where}.{key}: missing; add it")
    for task in _files("tasks") & set(_items(scale, "tasks")) & set(_block(raw, "tasks")):
        given = {*_block(_block(raw, "tasks"), task), *_block(_block(scale, "task_settings"), task)}
        for key in declared_settings("tasks", task).model_fields.keys() - given:
            found.append(f"tasks.{task}.{key}: missing; add it")
    return sorted(found)


def _wrong_lengths(raw: dict[str, Any]) -> list[str]:
    """Lengths that cannot be decoded block by block."""
    found: list[str] = []

    def look(lengths: list[Any], block: Any, where: str) -> None:
        if isinstance(block, int) and block > 0:
            for length in lengths:
                if isinstance(length, int) and length % block:
                    near = max(1, round(length / block)) * block
                    found.append(f"{where}: {length} is not a multiple of block_length {block}; try {near}")

    for name, scale in _block(raw, "scales").items():
        look(_items(scale, "lengths"), scale.get("block_length"), f"scales.{name}.lengths")
        of_scale = [layer for layer in _layers(raw) if layer[0].startswith(f"scales.{name}.")]
        for where, values, _ in of_scale:
            look(_given(values, "generation_length"), scale.get("block_length"), f"{where}.generation_length")
    in_use = _block(_block(raw, "scales"), str(raw.get("scale")))
    for where, values, _ in _layers(raw):
        if not where.startswith("scales."):
            look(_given(values, "generation_length"), in_use.get("block_length"), f"{where}.generation_length")
    return found


def _files(folder: str) -> set[str]:
    """Names of the methods or tasks that have a file."""
    return {path.stem for path in (LIBRARY / folder).glob("*.py") if path.stem != "__init__"}


def _block(values: Any, key: str) -> dict[str, Any]:
    """A sub-block; empty where it is absent or no mapping, which `problems` reports."""
    found = values.get(key) if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def _items(values: Any, key: str) -> list[Any]:
    """A list; empty where it is absent or no list, which `problems` reports."""
    found = values.get(key) if isinstance(values, dict) else None
    return [item for item in found if isinstance(item, str | int)] if isinstance(found, list) else []


def _given(values: Any, key: str) -> list[Any]:
    """A single value as a list, empty where it is absent."""
    return [values[key]] if isinstance(values, dict) and isinstance(values.get(key), str | int) else []
