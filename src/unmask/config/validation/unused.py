"""Settings that are set where they can have no effect, such as `merge_start` of a method that starts from none.

What a setting needs is declared once: `USED_IF` in schema/training.py for settings of all training runs, `used_if` in
the file of a method. A condition is an expression of other settings. It is evaluated at every combination of task,
fidelity, scale and grid to which a layer belongs; a setting is refused if none of them uses it.

Only narrow layers are checked: `training` is shared by all methods, fidelities are presets, and the general block of a
method may replace any default of its file, so a value without effect there is a default, too, and no mistake.
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from unmask.config.schema.introspection import declared_names, method_class, method_defaults, settings_of
from unmask.config.schema.methods import NOT_SETTINGS
from unmask.config.schema.training import USED_IF, Training
from unmask.config.validation.safe_access import algorithm_of, block_at, given_at, items_at

Values = dict[str, Any]

# Values that switch a setting off, besides zero, False, nothing and "none". To say so once more is harmless.
OFF = {"reference_mix": 1.0, "mask_padding": True, "right_share": 1.0}
# Conditions that are not about settings alone, in words.
WORDS = {
    "start_from": "the method has a start_from",
    "not corpus": "the method learns no corpus",
    "trains_head and rule == 'adaptive'": "the method trains the head of a sampler with rule: adaptive",
}


@dataclass(frozen=True)
class Layer:
    """A part of config.yaml that replaces settings, with the fidelities and scales at which it counts."""

    where: str  # dotted path; empty for the general part
    block: Values
    fidelities: list[str]
    scales: list[str]

    @property
    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every fidelity with every scale."""
        return itertools.product(self.fidelities, self.scales)

    def place(self, *keys: str) -> str:
        """Return the dotted path of a key in the layer."""
        return ".".join([self.where, *keys] if self.where else keys)


def unused(raw: dict[str, Any]) -> Iterator[str]:
    """Yield one line for each setting that no combination of task, fidelity, scale and grid uses."""
    for layer in _layers(raw):
        for method in block_at(layer.block, "methods"):
            if algorithm_of(raw, method) in _algorithms():
                yield from _of_method(raw, layer, method)
        yield from _of_samplers(raw, layer)
    for experiment in block_at(raw, "experiments"):
        yield from _of_experiment(raw, experiment)
        yield from _of_grids(raw, experiment)


def _layers(raw: dict[str, Any]) -> list[Layer]:
    """Return the general part and the scale in use, each with the fidelities and scales at which it counts."""
    # Fidelities are presets of papers and codes: a change elsewhere must not turn one of their values into a mistake.
    fidelities, scales = list(block_at(raw, "fidelities")), list(block_at(raw, "scales"))
    scale = str(raw.get("scale"))
    return [
        Layer("", raw, fidelities, scales),
        Layer(f"scales.{scale}", block_at(raw, "scales", scale), fidelities, [scale]),
    ]


# --- what is checked --------------------------------------------------------------------------------------------------


def _of_method(raw: dict[str, Any], layer: Layer, method: str) -> Iterator[str]:
    """Check a method's block in one layer, and what it has by task."""
    block, place = block_at(layer.block, "methods", method), layer.place("methods", method)
    # In the general block, settings of the method's own file replace its defaults.
    given = {key: block[key] for key in block if layer.where or key in Training.model_fields}
    yield from _idle(raw, layer, method, given, place)

    # A run that learns a corpus has the corpus as its task, and so the settings of no other.
    # A corpus of a method that cannot learn one is a mistake of its own.
    learns = method_class(algorithm_of(raw, method)).demonstrations
    corpora = {_corpus(raw, method, *pair) for pair in layer.pairs} if learns else {None}
    for task, values in block_at(block, "by_task").items():
        if corpora and None not in corpora and task not in corpora:
            said = f"{method} learns {' or '.join(sorted(map(str, corpora)))} in place of the tasks"
            yield f"{place}.by_task.{task}: has no effect: {said}; remove it"
        elif isinstance(values, dict):
            yield from _idle(raw, layer, method, values, f"{place}.by_task.{task}", task)


def _idle(
    raw: dict[str, Any], layer: Layer, method: str, given: Values, place: str, task: str | None = None
) -> Iterator[str]:
    """Yield a line for each given setting that no run of the method uses, or none on one task."""
    conditions = _conditions(raw, method)
    for key in given:
        condition = conditions.get(key, "True")
        if key not in NOT_SETTINGS and not _is_off(key, given[key]):
            effects = [_holds(condition, values) for values in _runs(raw, layer, method, _names(condition), task)]
            if effects and not any(effects):
                yield _line(f"{place}.{key}", condition)


def _of_samplers(raw: dict[str, Any], layer: Layer) -> Iterator[str]:
    """Check what a sampler says of its draws, if it is used, and greedily everywhere."""
    for name in block_at(layer.block, "samplers"):
        sampler = block_at(layer.block, "samplers", name)
        # The score `entropy` is that of the distribution that is drawn from, and so depends on top_p.
        drawn = {"top_p": sampler.get("score") != "entropy", "draw_dtype": True}
        given = [key for key, idle in drawn.items() if idle and sampler.get(key, "float32") not in (1.0, "float32")]
        if given and _is_greedy(raw, layer, name):
            yield from (_line(layer.place("samplers", name, key), "temperature > 0") for key in given)


def _of_experiment(raw: dict[str, Any], name: str) -> Iterator[str]:
    """Check the switches of an experiment."""
    experiment, scales = block_at(raw, "experiments", name), block_at(raw, "scales")
    grids = [_grid(raw, name, scale)[1] for scale in scales]
    if experiment.get("equal_updates") is True and grids and not any("updates_per_buffer" in grid for grid in grids):
        yield _line(f"experiments.{name}.equal_updates", "the grid has updates_per_buffer")
    changes = [block_at(scales, scale, "experiment_changes", name) for scale in scales]
    tasks = [
        items_at(change, "tasks") or items_at(experiment, "tasks") or items_at(scales[scale], "tasks")
        for scale, change in zip(scales, changes, strict=True)
    ]
    if experiment.get("transfer") is True and tasks and all(len(some) == 1 for some in tasks):
        yield _line(f"experiments.{name}.transfer", "the experiment has several tasks")


def _of_grids(raw: dict[str, Any], experiment: str) -> Iterator[str]:
    """Check the axes of an experiment's grid at the scale in use, which may have a grid of its own for it."""
    place, grid = _grid(raw, experiment, str(raw.get("scale")))
    scales = [scale for scale in block_at(raw, "scales") if _grid(raw, experiment, scale)[0] == place]
    layer = Layer(place, grid, list(block_at(raw, "fidelities")), scales)
    owners = dict.fromkeys(method for scale in scales for method in _methods(raw, experiment, scale))
    for key, choices in grid.items():
        if not isinstance(choices, list) or all(_is_off(key, choice) for choice in choices):
            continue
        # An axis is for the methods that have the setting: an effect on the runs of one of them is enough.
        conditions = {one: _conditions(raw, one).get(key, "True") for one in owners if _has(raw, one, key)}
        effects = [
            _holds(condition, values)
            for method, condition in conditions.items()
            for settings in _settings(raw, layer, method)
            for values in _with_grid(raw, settings, grid, _names(condition))
        ]
        if effects and not any(effects):
            yield _line(f"{place}.{key}", " or ".join(dict.fromkeys(conditions.values())))


# --- what layers add up to --------------------------------------------------------------------------------------------


def _settings(raw: dict[str, Any], layer: Layer, method: str, task: str | None = None) -> Iterator[Values]:
    """Yield a method's settings at every combination to which the layer belongs, resolved like `Config.settings`.

    With one task if it is given, else with each that the method has settings for, and with none of them. Among the
    settings are the other names of conditions: start_from, corpus, trains_head, rule (of the sampler) and scale.
    """
    algorithm = algorithm_of(raw, method)
    # A method that decides itself what is frozen may train the head.
    head = "begin" in vars(method_class(algorithm))
    for fidelity, scale in layer.pairs:
        parts = raw, block_at(raw, "fidelities", fidelity), block_at(raw, "scales", scale)
        blocks = [block_at(part, "methods", method) for part in parts]
        own = dict.fromkeys(one for block in blocks for one in block_at(block, "by_task"))
        for one in [task] if task else [None, *own]:
            values: Values = {"start_from": None}
            for part in parts:
                values |= block_at(part, "training")
            values |= method_defaults(algorithm)
            for block in blocks:
                values |= block | (block_at(block, "by_task", one) if one else {})
            values |= {"corpus": _corpus(raw, method, fidelity, scale), "trains_head": head, "scale": scale}
            yield values | {"rule": _rule(raw, values.get("sampler"))}


def _runs(
    raw: dict[str, Any], layer: Layer, method: str, names: tuple[str, ...], task: str | None = None
) -> Iterator[Values]:
    """Yield the same, and each with the choices for these settings in the grids of experiments with the method."""
    for values in _settings(raw, layer, method, task):
        yield values
        for experiment in block_at(raw, "experiments"):
            if method in _methods(raw, experiment, values["scale"]):
                yield from _with_grid(raw, values, _grid(raw, experiment, values["scale"])[1], names)


def _with_grid(raw: dict[str, Any], values: Values, grid: Values, names: tuple[str, ...]) -> Iterator[Values]:
    """Yield some settings with every combination of a grid's axes that are among these names."""
    wanted = {*names, *(("sampler",) if "rule" in names else ())}
    axes = {key: choices for key, choices in grid.items() if key in wanted and isinstance(choices, list)}
    for choice in itertools.product(*axes.values()):
        chosen = values | dict(zip(axes, choice, strict=True))
        yield chosen | {"rule": _rule(raw, chosen.get("sampler"))}


def _grid(raw: dict[str, Any], experiment: str, scale: str) -> tuple[str, Values]:
    """Return the place and the axes of an experiment's grid at a scale: its own, or the one that the scale gives it."""
    place = f"experiments.{experiment}.grid"
    change = block_at(raw, "scales", scale, "experiment_changes", experiment)
    if change.get("grid") is None:
        return place, block_at(raw, "experiments", experiment, "grid")
    return f"scales.{scale}.experiment_changes.{experiment}.grid", block_at(change, "grid")


def _methods(raw: dict[str, Any], experiment: str, scale: str) -> list[Any]:
    change = block_at(raw, "scales", scale, "experiment_changes", experiment)
    return items_at(change, "methods") or items_at(block_at(raw, "experiments", experiment), "methods")


def _corpus(raw: dict[str, Any], method: str, fidelity: str, scale: str) -> Any:
    parts = raw, block_at(raw, "fidelities", fidelity), block_at(raw, "scales", scale)
    found = [one for part in parts for one in given_at(block_at(part, "methods", method), "corpus")]
    return found[-1] if found else None


def _rule(raw: dict[str, Any], sampler: Any) -> Any:
    """Return the commit rule of a sampler, which no scale can change; None if there is no such sampler."""
    return block_at(raw, "samplers", sampler).get("rule") if isinstance(sampler, str) else None


def _is_greedy(raw: dict[str, Any], layer: Layer, sampler: str) -> bool:
    """Return True if a sampler is used, and at no other temperature than 0."""
    is_used = False
    for temperature in _temperatures(raw, layer, sampler):
        if temperature != 0:
            return False
        is_used = True
    return is_used


def _temperatures(raw: dict[str, Any], layer: Layer, sampler: str) -> Iterator[Any]:
    """Yield the temperature of every evaluation, diagnosis and training run that uses a sampler."""
    for name, (fidelity, scale) in itertools.product(block_at(raw, "evaluations"), layer.pairs):
        evaluation = block_at(raw, "evaluations", name)
        for part in (block_at(raw, "fidelities", fidelity), block_at(raw, "scales", scale)):
            evaluation = evaluation | block_at(part, "evaluations", name)
        if sampler in items_at(evaluation, "samplers"):
            yield evaluation.get("temperature")
    for diagnosis in block_at(raw, "diagnoses").values():
        if sampler in given_at(diagnosis, "sampler"):
            yield diagnosis.get("temperature")
    for method in block_at(raw, "methods"):
        if algorithm_of(raw, method) in _algorithms():
            runs = _runs(raw, layer, method, ("sampler", "temperature"))
            yield from (values.get("temperature") for values in runs if values.get("sampler") == sampler)


# --- conditions -------------------------------------------------------------------------------------------------------


def _algorithms() -> set[str]:
    """Return the methods that train."""
    return declared_names("methods") - {"base"}


def _has(raw: dict[str, Any], method: str, key: str) -> bool:
    algorithm = algorithm_of(raw, method)
    return algorithm in _algorithms() and key in settings_of(algorithm).model_fields


def _conditions(raw: dict[str, Any], method: str) -> dict[str, str]:
    """Return what the settings of a method need; what its own file says comes first."""
    conditions: dict[str, str] = USED_IF | method_class(algorithm_of(raw, method)).used_if
    return conditions


@functools.cache
def _compiled(condition: str) -> tuple[CodeType, tuple[str, ...]]:
    tree = ast.parse(condition, mode="eval")
    return compile(tree, condition, "eval"), tuple({n.id for n in ast.walk(tree) if isinstance(n, ast.Name)})


def _names(condition: str) -> tuple[str, ...]:
    return _compiled(condition)[1]


def _holds(condition: str, values: Values) -> bool:
    """Return True if a condition is met, or cannot be evaluated: a wrong value is reported elsewhere."""
    try:
        return bool(eval(_compiled(condition)[0], {"__builtins__": {}}, values))  # noqa: S307 (our own)
    except (NameError, TypeError, KeyError, ValueError, ArithmeticError):
        return True


def _is_off(key: str, value: Any) -> bool:
    return not value or value == "none" or value == OFF.get(key)


def _line(place: str, condition: str) -> str:
    if condition == "False":
        return f"{place}: has no effect: the method does not use it; remove it"
    return f"{place}: has no effect: it is used only if {WORDS.get(condition, condition)}; remove it, or change that"
