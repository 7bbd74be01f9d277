"""Settings that are set where they can have no effect, such as `merge_start` of a method that starts from none.

What a setting needs is declared once: `USED_IF` in schema/training.py for settings of all training runs, `used_if` in
the file of a method. A condition is an expression of other settings. It is evaluated at every combination of task,
fidelity, scale and grid to which a layer belongs; a setting is refused if none of them uses it.

Only narrow layers are checked: `training` is shared by all methods, and fidelities are presets. In the general block
of a method, a value that repeats the default of its file changes nothing and is accepted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unmask.config.schema import Config
from unmask.config.schema.introspection import method_class, method_defaults, settings_of
from unmask.config.schema.methods import ByTask
from unmask.config.schema.samplers import Sampler, TopK
from unmask.config.schema.training import Training
from unmask.config.schema.types import Values
from unmask.config.validation.conditions import conditions_of, holds, is_off, names_in, not_used, trains
from unmask.config.validation.effective import Effective
from unmask.config.validation.layers import toy_in_use


@dataclass(frozen=True)
class Part:
    """Part of config.yaml that replaces settings, with every combination of fidelity and scale at which it counts."""

    where: str  # dotted path; empty for the general part
    configs: list[Config]  # one per combination, with that fidelity and scale in use

    def place(self, *keys: str) -> str:
        """Return the dotted path of a key in the part."""
        return ".".join([self.where, *keys] if self.where else keys)


def unused(config: Config) -> list[str]:
    """Return one line for each setting that no combination of task, fidelity, scale and grid uses."""
    return _Search(config).lines()


class _Search:
    """Search for settings without effect."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.effective = Effective(config)

    def lines(self) -> list[str]:
        """Return a line for each setting without effect."""
        config = self.config
        general = Part("", self._configs(list(config.scales)))
        lines = self._of_part(general, config.methods, config.samplers)

        # Fidelities are presets of papers and codes: a change elsewhere must not turn one of their values into a
        # mistake.
        if config.scale in config.scales:
            scale = config.scales[config.scale]
            part = Part(f"scales.{config.scale}", self._configs([config.scale]))
            lines += self._of_part(part, scale.methods, scale.samplers)

        for experiment in config.experiments:
            lines += self._of_experiment(experiment)
            lines += self._of_grid(experiment)
        return lines

    def _configs(self, scales: list[str]) -> list[Config]:
        """Return the configuration at every fidelity with each of these scales."""
        return [self.config.at(fidelity, scale) for fidelity in self.config.fidelities for scale in scales]

    def _of_part(self, part: Part, methods: Mapping[str, ByTask], samplers: Mapping[str, Sampler]) -> list[str]:
        """Check the methods and samplers of the general part or of a scale."""
        lines = []
        for method, block in methods.items():
            if trains(self.config, method):
                lines += self._of_method(part, method, block)
        for name, sampler in samplers.items():
            lines += self._of_sampler(part, name, sampler)
        return lines

    def _of_method(self, part: Part, method: str, block: ByTask) -> list[str]:
        """Check a method's block in one part, and what it has by task."""
        place = part.place("methods", method)
        given = block.settings
        if not part.where:
            defaults = method_defaults(self.config.algorithm(method))
            given = {key: value for key, value in given.items() if key not in defaults or value != defaults[key]}
        lines = self._idle(part, method, given, place)

        corpora = self._corpora(part, method)
        for task, values in block.by_task.items():
            if corpora and task not in corpora:
                said = f"{method} learns {' or '.join(sorted(corpora))} in place of the tasks"
                lines.append(f"{place}.by_task.{task}: has no effect: {said}; remove it")
            else:
                lines += self._idle(part, method, values, f"{place}.by_task.{task}", task)
        return lines

    def _corpora(self, part: Part, method: str) -> set[str]:
        """Return what a method always learns in place of the tasks; empty if it also learns tasks."""
        # A run that learns a corpus has the corpus as its task, and so the settings of no other.
        # A corpus of a method that cannot learn one is a mistake of its own.
        found: set[str] = set()
        if not method_class(self.config.algorithm(method)).demonstrations:
            return found
        for config in part.configs:
            corpus = config.corpus(method)
            if corpus is None:
                return set()
            found.add(corpus)
        return found

    def _idle(self, part: Part, method: str, given: Values, place: str, task: str | None = None) -> list[str]:
        """Return a line for each given setting that no run of the method uses, or none on one task."""
        conditions = conditions_of(self.config, method)
        lines = []
        for key, value in given.items():
            condition = conditions.get(key)
            if condition is None or is_off(key, value):
                continue
            runs = self._runs(part, method, names_in(condition), task)
            # The exact toy has no settings of training, and takes a method's own from its general block.
            is_for_toy = not (part.where or task or key in Training.model_fields)
            if is_for_toy:
                runs = itertools.chain(runs, self._curves(part, method))
            if _never(condition, runs):
                lines.append(not_used(f"{place}.{key}", condition))
        return lines

    def _of_sampler(self, part: Part, name: str, sampler: Sampler) -> list[str]:
        """Check what a sampler says of its draws, if it is used, and greedily everywhere."""
        given = []
        # The score `entropy` is that of the distribution that is drawn from, and so depends on top_p.
        by_entropy = isinstance(sampler, TopK) and sampler.score == "entropy"
        if sampler.top_p != 1.0 and not by_entropy:
            given.append("top_p")
        if sampler.draw_dtype != "float32":
            given.append("draw_dtype")
        if not given or not self._is_greedy(part, name):
            return []
        return [not_used(part.place("samplers", name, key), "temperature > 0") for key in given]

    def _of_experiment(self, name: str) -> list[str]:
        """Check the switches of an experiment."""
        experiment = self.config.experiments[name]
        configs = [self.config.at(self.config.fidelity, scale) for scale in self.config.scales]
        if not configs:
            return []
        lines = []
        reuses = any("updates_per_buffer" in config.grid_of(name) for config in configs)
        if experiment.equal_updates and not reuses:
            lines.append(not_used(f"experiments.{name}.equal_updates", "the grid has updates_per_buffer"))
        one_task = all(len(config.tasks_of(name)) == 1 for config in configs)
        if experiment.transfer and one_task:
            lines.append(not_used(f"experiments.{name}.transfer", "the experiment has several tasks"))
        return lines

    def _of_grid(self, experiment: str) -> list[str]:
        """Check the axes of an experiment's grid at the scale in use, which may have a grid of its own for it."""
        place, grid = _grid_of(self.config, experiment), self.config.grid_of(experiment)
        others = [self.config.at(self.config.fidelity, scale) for scale in self.config.scales]
        same = [other for other in others if _grid_of(other, experiment) == place]
        part = Part(place, self._configs([other.scale for other in same]))
        owners = dict.fromkeys(method for other in same for method in other.methods_of(experiment))

        lines = []
        for key, choices in grid.items():
            # An axis is for the methods that have the setting: an effect on the runs of one of them is enough.
            conditions = {}
            for method in owners:
                if trains(self.config, method) and key in settings_of(self.config.algorithm(method)).model_fields:
                    conditions[method] = conditions_of(self.config, method).get(key, "True")
            if not conditions or all(is_off(key, choice) for choice in choices):
                continue
            if all(_never(one, self._choices(part, method, grid, one)) for method, one in conditions.items()):
                needs = " or ".join(dict.fromkeys(conditions.values()))
                lines.append(not_used(f"{place}.{key}", needs))
        return lines

    def _choices(self, part: Part, method: str, grid: dict[str, list[Any]], condition: str) -> Iterator[Values]:
        """Yield a method's settings with every combination of the axes of a grid that a condition names."""
        for config in part.configs:
            for values in self.effective.settings(config, method):
                yield from self.effective.with_grid(values, grid, names_in(condition))

    def _runs(self, part: Part, method: str, names: tuple[str, ...], task: str | None = None) -> Iterator[Values]:
        """Yield a method's settings, and each with the choices for these names in the grids of its experiments."""
        for config in part.configs:
            for values in self.effective.settings(config, method, task):
                yield values
                for experiment in config.experiments:
                    if method in config.methods_of(experiment):
                        yield from self.effective.with_grid(values, config.grid_of(experiment), names)

    def _curves(self, part: Part, method: str) -> Iterator[Values]:
        """Yield the settings of a method in each of its curves of the exact toy."""
        for config in part.configs:
            toy = toy_in_use(config)
            for curve in toy.curves.values():
                if curve.method == method:
                    yield config.curve_settings(toy, curve)

    def _is_greedy(self, part: Part, sampler: str) -> bool:
        """Return True if a sampler is used, and at no other temperature than 0."""
        is_used = False
        for temperature in self._temperatures(part, sampler):
            if temperature != 0:
                return False
            is_used = True
        return is_used

    def _temperatures(self, part: Part, sampler: str) -> Iterator[Any]:
        """Yield the temperature of every evaluation, diagnosis and training run that uses a sampler."""
        for config in part.configs:
            for name in config.evaluations:
                evaluation = config.unchecked_evaluation(name)
                # What is no list is reported elsewhere.
                if isinstance(evaluation.samplers, list) and sampler in evaluation.samplers:
                    yield evaluation.temperature
        for diagnosis in self.config.diagnoses.values():
            if sampler == diagnosis.sampler:
                yield diagnosis.temperature
        for method in self.config.methods:
            if trains(self.config, method):
                for values in self._runs(part, method, ("sampler", "temperature")):
                    if values.get("sampler") == sampler:
                        yield values.get("temperature")


def _never(condition: str, runs: Iterator[Values]) -> bool:
    """Return True if there are runs, and none of them meets a condition."""
    is_one = False
    for values in runs:
        if holds(condition, values):
            return False
        is_one = True
    return is_one


def _grid_of(config: Config, experiment: str) -> str:
    """Return the place of an experiment's grid at a scale: its own, or the one that the scale gives it."""
    scale = config.scales.get(config.scale)
    change = scale.experiment_changes.get(experiment) if scale else None
    if change is None or change.grid is None:
        return f"experiments.{experiment}.grid"
    return f"scales.{config.scale}.experiment_changes.{experiment}.grid"
