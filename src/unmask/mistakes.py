"""Everything that can be wrong with config.yaml, found in one pass and said in one message.

The blocks are checked one by one and never through each other, so that one broken block hides no mistake in another.
Only when all are right in themselves are they held against each other, in `check_scale`; what the layers add up to is
checked last, in grid.py.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from unmask.settings import (
    LIBRARY,
    NOT_SETTINGS,
    Block,
    Config,
    ExactToy,
    ScratchModel,
    Training,
    declared_figures,
    declared_settings,
    optional,
    settings_of,
)


class ConfigError(ValueError):
    """Everything that is wrong with a configuration, one line each."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = list(dict.fromkeys(lines))
        count = f"{len(self.lines)} mistake{'s' if len(self.lines) > 1 else ''}"
        super().__init__("\n".join([f"config.yaml has {count}:", *(f"  - {line}" for line in self.lines)]))


def check(raw: Any) -> None:
    """Raise ConfigError if a block of the (normalised) configuration is wrong."""
    lines = problems(Config, raw, "")
    if not isinstance(raw, dict):
        raise ConfigError(lines)
    lines += _wrong_names(raw)
    for where, values, block in _layers(raw):
        lines += problems(optional(block), values, where)
    lines += _missing(raw) + _wrong_lengths(raw)
    if lines:
        raise ConfigError(lines)


def check_scale(config: Config) -> None:
    """Raise ConfigError if right blocks do not fit together at the scale in use."""
    where, scale = f"scales.{config.scale}", config.scales[config.scale]
    lines: list[str] = []
    asked = [(where, scale.model, scale.tasks)]
    for name, one in config.experiments.items():
        if one.model is not None and one.model not in scale.models:
            lines.append(f"{where}.models.{one.model}: missing; experiments.{name}.model asks for it")
        asked.append((f"experiments.{name}", scale.models.get(one.model or "", scale.model), config.tasks_of(name)))
    for asker, name, tasks in asked:
        model = config.models[name]
        lacking = [task for task in tasks if isinstance(model, ScratchModel) and task not in model.pretraining]
        lines += [f"models.{name}.pretraining.{task}: missing; {asker}.tasks has {task}" for task in lacking]
    lines += problems(ExactToy, config.exact_toy.model_dump() | scale.exact_toy, f"{where}.exact_toy")
    if lines:
        raise ConfigError(lines)


def _wrong_names(raw: dict[str, Any]) -> list[str]:
    """Names that stand for nothing."""
    found: list[str] = []

    def look(names: list[Any], known: Any, where: str) -> None:
        found.extend(unknown(name, known, where) for name in names if isinstance(name, str) and name not in known)

    methods, tasks, samplers = (_block(raw, key) for key in ("methods", "tasks", "samplers"))
    look(_given(raw, "scale"), _block(raw, "scales"), "scale")
    look(_given(raw, "fidelity"), _block(raw, "fidelities"), "fidelity")
    look(list(tasks), _files("tasks"), "tasks")
    for name, method in methods.items():
        if isinstance(method, dict) and isinstance(method.get("algorithm", name), str):
            look([_algorithm(raw, name)], _files("methods"), f"methods.{name}" if "algorithm" in method else "methods")
        trained = [m for m in methods if not _given(methods[m], "start_from") and _algorithm(raw, m) != "base"]
        look(_given(method, "start_from"), trained, f"methods.{name}.start_from")
    for name, evaluation in _block(raw, "evaluations").items():
        look(_items(evaluation, "samplers"), samplers, f"evaluations.{name}.samplers")
    for name, diagnosis in _block(raw, "diagnoses").items():
        look(_given(diagnosis, "sampler"), samplers, f"diagnoses.{name}.sampler")
    for where, blocks in [("methods", methods), *((f"{w}.methods", _block(b, "methods")) for w, b in _overrides(raw))]:
        look(list(blocks), methods, where)
        for name, block in blocks.items():
            look(list(_block(block, "by_task")), tasks, f"{where}.{name}.by_task")
    for where, block in _overrides(raw):
        look(list(_block(block, "task_settings")), tasks, f"{where}.task_settings")
    for name, scale in _block(raw, "scales").items():
        look(_given(scale, "model"), _block(raw, "models"), f"scales.{name}.model")
        look(list(_block(scale, "models").values()), _block(raw, "models"), f"scales.{name}.models")
        look(_items(scale, "tasks"), tasks, f"scales.{name}.tasks")
        look(_items(scale, "experiments"), _block(raw, "experiments"), f"scales.{name}.experiments")
        look(list(_block(scale, "samplers")), samplers, f"scales.{name}.samplers")
        look(list(_block(scale, "experiment_tasks")), _block(raw, "experiments"), f"scales.{name}.experiment_tasks")
        for experiment in _block(scale, "experiment_tasks"):
            where = f"scales.{name}.experiment_tasks.{experiment}"
            look(_items(_block(scale, "experiment_tasks"), experiment), tasks, where)
        look(list(_block(_block(scale, "cost"), "test_examples")), tasks, f"scales.{name}.cost.test_examples")
    for name, model in _block(raw, "models").items():
        look(list(_block(model, "pretraining")), tasks, f"models.{name}.pretraining")
    for name, experiment in _block(raw, "experiments").items():
        look(_items(experiment, "methods"), methods, f"experiments.{name}.methods")
        look(_items(experiment, "tasks"), tasks, f"experiments.{name}.tasks")
        look(_given(experiment, "evaluation"), _block(raw, "evaluations"), f"experiments.{name}.evaluation")
        look(_given(experiment, "diagnosis"), _block(raw, "diagnoses"), f"experiments.{name}.diagnosis")
        look(_items(experiment, "figures"), declared_figures(), f"experiments.{name}.figures")
        if name in _rules():
            found.append(f"experiments: '{name}' is a target of the workflow; choose another name")
    for where, values, _ in _layers(raw):
        look(_given(values, "sampler"), samplers, f"{where}.sampler")
    for where, toy in _toys(raw):
        look(list(_block(toy, "methods")), methods, f"{where}.methods")
        for name, curve in _block(toy, "curves").items():
            look(_given(curve, "method"), methods, f"{where}.curves.{name}.method")
    return found


def _overrides(raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The blocks that override others: fidelities and scales."""
    for kind in ("fidelities", "scales"):
        for name, block in _block(raw, kind).items():
            yield f"{kind}.{name}", block


def _toys(raw: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The exact laboratory's block and what scales put in its place."""
    yield "exact_toy", _block(raw, "exact_toy")
    for name, scale in _block(raw, "scales").items():
        yield f"scales.{name}.exact_toy", _block(scale, "exact_toy")


def _layers(raw: dict[str, Any]) -> Iterator[tuple[str, Any, type[Block]]]:
    """Every block of settings: where it stands, its values and what it may hold."""
    yield "training", raw.get("training"), Training
    yield from _method_layers(raw, _block(raw, "methods"), "methods")
    yield from _task_layers(_block(raw, "tasks"), "tasks")
    for where, block in _overrides(raw):
        yield f"{where}.training", _block(block, "training"), Training
        yield from _method_layers(raw, _block(block, "methods"), f"{where}.methods")
        yield from _task_layers(_block(block, "task_settings"), f"{where}.task_settings")
    for name, experiment in _block(raw, "experiments").items():
        yield from _grid_layers(raw, experiment, f"experiments.{name}.grid")
    yield from _toy_layers(raw)


def _method_layers(raw: dict[str, Any], blocks: dict[str, Any], where: str) -> Iterator[tuple[str, Any, type[Block]]]:
    for method, values in blocks.items():
        if _algorithm(raw, method) in _files("methods") and isinstance(values, dict):
            block = settings_of(_algorithm(raw, method))
            others = NOT_SETTINGS if where == "methods" else ("by_task",)  # overrides change settings only
            yield f"{where}.{method}", {k: v for k, v in values.items() if k not in others}, block
            for task, by_task in _block(values, "by_task").items():
                yield f"{where}.{method}.by_task.{task}", by_task, block


def _task_layers(blocks: dict[str, Any], where: str) -> Iterator[tuple[str, Any, type[Block]]]:
    for task, values in blocks.items():
        if task in _files("tasks"):
            yield f"{where}.{task}", values, declared_settings("tasks", task)


def _grid_layers(raw: dict[str, Any], experiment: Any, where: str) -> Iterator[tuple[str, Any, type[Block]]]:
    """Each choice of each axis, checked against the methods that have the setting (against the first if none has)."""
    algorithms = [_algorithm(raw, m) for m in _items(experiment, "methods") if _algorithm(raw, m) in _files("methods")]
    for key, choices in _block(experiment, "grid").items():
        owners = [a for a in algorithms if key in settings_of(a).model_fields] or algorithms[:1]
        for owner in owners if isinstance(choices, list) else ():
            yield from ((where, {key: choice}, settings_of(owner)) for choice in choices)


def _toy_layers(raw: dict[str, Any]) -> Iterator[tuple[str, Any, type[Block]]]:
    """Settings of methods in the laboratory, where only a method's own have a meaning; then what scales change."""
    for where, toy in _toys(raw):
        changes = [(f"{where}.methods.{method}", method, block) for method, block in _block(toy, "methods").items()]
        for name, curve in _block(toy, "curves").items():
            for method in _given(curve, "method"):
                own = {key: value for key, value in curve.items() if key != "method"}
                changes.append((f"{where}.curves.{name}.{method}", method, own))
        for place, method, block in changes:
            if _algorithm(raw, method) in _files("methods") and isinstance(block, dict):
                yield place, block, declared_settings("methods", _algorithm(raw, method))
    for where, toy in list(_toys(raw))[1:]:
        yield where, toy, ExactToy


def _missing(raw: dict[str, Any]) -> list[str]:
    """Settings that no layer gives, for the methods and tasks of the scale in use."""
    in_use = [
        _block(_block(raw, "fidelities"), str(raw.get("fidelity"))),
        _block(_block(raw, "scales"), str(raw.get("scale"))),
    ]
    common = set().union(_block(raw, "training"), *(_block(block, "training") for block in in_use))
    if not isinstance(raw.get("training"), dict):
        common |= Training.model_fields.keys()
    found: list[str] = []
    for method, general in _block(raw, "methods").items():
        if (algorithm := _algorithm(raw, method)) in _files("methods") and isinstance(general, dict):
            blocks = [_block(_block(block, "methods"), method) for block in (raw, *in_use)]
            for key in settings_of(algorithm).model_fields.keys() - common.union(*blocks):
                where = "training" if key in Training.model_fields else f"methods.{method}"
                found.append(f"{where}.{key}: missing; add it")
    found += _missing_in_toy(raw, in_use[1])
    askers = [in_use[1], *_block(raw, "experiments").values()]
    asked = {task for asker in askers for task in _items(asker, "tasks")}
    chosen = _block(in_use[1], "experiment_tasks")
    asked |= {task for experiment in chosen for task in _items(chosen, experiment)}
    for task in _files("tasks") & asked & set(_block(raw, "tasks")):
        blocks = [_block(_block(raw, "tasks"), task), *(_block(_block(b, "task_settings"), task) for b in in_use)]
        for key in declared_settings("tasks", task).model_fields.keys() - set().union(*blocks):
            found.append(f"tasks.{task}.{key}: missing; add it")
    return sorted(found)


def _missing_in_toy(raw: dict[str, Any], scale: dict[str, Any]) -> list[str]:
    """The laboratory takes a method's settings from the general part alone, without fidelity and scale."""
    toy = _block(raw, "exact_toy") | _block(scale, "exact_toy")
    found: list[str] = []
    for curve in _block(toy, "curves").values():
        for method in _given(curve, "method"):
            if isinstance(_block(raw, "methods").get(method), dict) and _algorithm(raw, method) in _files("methods"):
                given = set(curve).union(_block(raw["methods"], method), _block(_block(toy, "methods"), method))
                lacking = declared_settings("methods", _algorithm(raw, method)).model_fields.keys() - given
                found += [f"methods.{method}.{key}: missing; add it" for key in lacking]
    return found


def _wrong_lengths(raw: dict[str, Any]) -> list[str]:
    """Lengths that cannot be decoded block by block; a general length is held against the scale in use."""
    found: list[str] = []

    def look(lengths: list[Any], block: Any, where: str) -> None:
        if isinstance(block, int) and block > 0:
            for length in lengths:
                if isinstance(length, int) and length % block:
                    near = max(1, round(length / block)) * block
                    found.append(f"{where}: {length} is not a multiple of block_length {block}; try {near}")

    scales = _block(raw, "scales")
    for name, scale in scales.items():
        look(_items(scale, "lengths"), _block(scales, name).get("block_length"), f"scales.{name}.lengths")
    for where, values, _ in _layers(raw):
        kind, _, rest = where.partition(".")
        scale = _block(scales, rest.partition(".")[0] if kind == "scales" else str(raw.get("scale")))
        look(_given(values, "generation_length"), scale.get("block_length"), f"{where}.generation_length")
    return found


def _algorithm(raw: dict[str, Any], method: str) -> str:
    """The file of a method: its own name unless its block names another."""
    return str((_given(_block(_block(raw, "methods"), method), "algorithm") or [method])[0])


def _files(folder: str) -> set[str]:
    """Names of the methods or tasks that have a file."""
    return {path.stem for path in (LIBRARY / folder).glob("*.py") if path.stem != "__init__"}


def _rules() -> set[str]:
    """Names of the workflow's rules: those of its scripts, and three that only collect."""
    return {"all", "everything", "exact_toy"} | {path.stem for path in LIBRARY.parent.glob("*.py")}


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


def problems(model: type[BaseModel], values: Any, where: str) -> list[str]:
    """Everything wrong with `values` as a `model`: one line each, with the dotted path and a way out."""
    try:
        model.model_validate(values)
    except ValidationError as errors:
        return [_one_line(model, error, where) for error in errors.errors()]
    return []


def unknown(name: str, known: Any, where: str) -> str:
    """One line for a name that is not among the known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        hint = f"did you mean '{close[0]}'?"
    else:
        hint = f"known: {', '.join(names)}" if 0 < len(names) <= 12 else "remove it"
    return f"{where}: unknown '{shown(name)}'; {hint}"


def _one_line(model: type[BaseModel], error: Any, where: str) -> str:
    path = ".".join(shown(part) for part in (where, *error["loc"]) if part not in ("", "[key]")) or "config.yaml"
    if error["type"] == "extra_forbidden":
        parent, _, key = path.rpartition(".")
        return unknown(key, _keys(model), parent or "config.yaml")
    if error["type"] == "missing":
        return f"{path}: missing; add it"
    if error["type"] == "refused":
        return f"{path}: {error['msg']}"
    message = "input should be a valid dictionary" if error["type"] == "model_type" else error["msg"]
    return f"{path}: {message[0].lower()}{message[1:]}, not {cut(repr(error['input']))}"


def shown(name: Any) -> str:
    """A key or name in a message: as it is, unless it would break the line."""
    text = str(name)
    return cut(text if text.isprintable() else ascii(text)[1:-1])


def cut(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= 80 else f"{text[:77]}…"


def _keys(annotation: Any) -> set[str]:
    """The keys of all blocks that an annotation contains."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return set(fields).union(*(_keys(field.annotation) for field in fields.values()))
    return set().union(*(_keys(part) for part in typing.get_args(annotation)))
