"""Effective settings of methods while a configuration is checked, from the layers that runs are resolved from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from unmask.config.schema import Config, merged
from unmask.config.schema.introspection import method_class
from unmask.config.schema.types import Values


class Effective:
    """Settings of methods at any fidelity and scale, with the other names of conditions.

    Those are start_from, corpus, trains_head (the method trains the head of an adaptive sampler) and rule (of the
    sampler).
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        # Every setting of a method is checked with the same settings, so they are merged once.
        self.known: dict[tuple[str, str, str, str | None], list[Values]] = {}

    def settings(self, config: Config, method: str, task: str | None = None) -> list[Values]:
        """Return a method's settings on one task, or without any and on each task for which it has settings."""
        key = (config.fidelity, config.scale, method, task)
        if key not in self.known:
            tasks = [task] if task else ["", *config.tasks_with_settings(method)]
            self.known[key] = [self._on_task(config, method, one) for one in tasks]
        return self.known[key]

    def _on_task(self, config: Config, method: str, task: str) -> Values:
        values = merged(config.layers_of(method, task))
        algorithm = method_class(config.algorithm(method))
        return values | {
            "start_from": config.methods[method].start_from,
            "corpus": config.corpus(method),
            # A method that decides itself what is frozen may train the head.
            "trains_head": "begin" in vars(algorithm),
            "rule": self._rule(values),
        }

    def with_grid(self, values: Values, grid: dict[str, list[Any]], names: tuple[str, ...]) -> Iterator[Values]:
        """Yield some settings with every combination of a grid's axes that are among these names."""
        axes = {}
        for key, choices in grid.items():
            if key in names or (key == "sampler" and "rule" in names):
                axes[key] = choices
        for choice in itertools.product(*axes.values()):
            chosen = values | dict(zip(axes, choice, strict=True))
            yield chosen | {"rule": self._rule(chosen)}

    def _rule(self, values: Values) -> str | None:
        """Return the commit rule of the sampler, which no scale can change; None if there is no such sampler."""
        name = values.get("sampler")
        sampler = self.config.samplers.get(name) if isinstance(name, str) else None
        return sampler.rule if sampler else None
