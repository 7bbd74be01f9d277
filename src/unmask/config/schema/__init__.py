"""Schema of config.yaml: every key, its type and its meaning.

This file has the top level; the other files of the folder have its blocks. Settings of methods and tasks are declared
once, as fields of the class in their own file, and read from there (introspection.py): adding one changes nothing here.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from unmask.config.schema.exact_toy import ExactToy
from unmask.config.schema.experiments import Diagnosis, Evaluation, Experiment
from unmask.config.schema.methods import NOT_SETTINGS, MethodBlock
from unmask.config.schema.models import BaseModelSettings
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.samplers import Sampler
from unmask.config.schema.scales import ExperimentChange, Overrides, Scale
from unmask.config.schema.types import Name, Section

Layer = tuple[str, dict[str, Any]]  # dotted path of a block in config.yaml, and the settings that it gives


def merged(layers: list[Layer]) -> dict[str, Any]:
    """Return the settings of all layers; later layers override earlier ones."""
    return {key: value for _, settings in layers for key, value in settings.items()}


class Config(Section):
    """Validated configuration, with look-ups that merge the general part, the fidelity and the scale in use."""

    scale: Name = Field(description="a name under `scales`; set by the profile")
    fidelity: Name = Field(description="a name under `fidelities`: which settings to use where papers and codes differ")
    runtime: Runtime = Field(description="affects no result, so a change repeats no run")
    training: dict[str, Any] = Field(description="settings of every training run")
    samplers: dict[Name, Sampler] = Field(description="how responses are decoded")
    evaluations: dict[Name, Evaluation] = Field(description="how policies are evaluated")
    diagnoses: dict[Name, Diagnosis] = Field(description="how surrogates are compared with the policy")
    methods: dict[Name, MethodBlock] = Field(description="settings of each method, and its overrides of `training`")
    tasks: dict[Name, dict[str, Any]] = Field(description="problems: sources, splits, prompts, rewards")
    models: dict[Name, BaseModelSettings] = Field(description="base models")
    fidelities: dict[Name, Overrides] = Field(
        description="overrides where papers and codes differ; the first is the default, and results of another NAME "
        "are in results/{scale}-NAME"
    )
    scales: dict[Name, Scale] = Field(description="size and cost of the runs")
    experiments: dict[Name, Experiment] = Field(description="questions, each with the runs that answer it")
    exact_toy: ExactToy = Field(description="experiment on a table of logits, whose responses are all enumerated")

    def sampler(self, name: str) -> Sampler:
        """Return a sampler: the scale's block if it has one, else the general block; no merging."""
        return self.scales[self.scale].samplers.get(name) or self.samplers[name]

    def evaluation(self, name: str) -> Evaluation:
        """Return an evaluation's settings, merged in this order: general, fidelity, scale; later layers override."""
        values = self.evaluations[name].model_dump()
        for overrides in (self.fidelities[self.fidelity], self.scales[self.scale]):
            values |= overrides.evaluations.get(name, {})
        return Evaluation(**values)

    @property
    def exact_toy_at_scale(self) -> ExactToy:
        """The exact toy with the scale's overrides."""
        return ExactToy(**self.exact_toy.model_dump() | self.scales[self.scale].exact_toy)

    @property
    def runtime_at_scale(self) -> Runtime:
        """Runtime settings with the scale's overrides."""
        return Runtime(**self.runtime.model_dump() | self.scales[self.scale].runtime)

    def methods_of(self, experiment: str) -> list[str]:
        """Return an experiment's methods: the scale's if it changes them, else the experiment's own."""
        return self._change(experiment).methods or self.experiments[experiment].methods

    def tasks_of(self, experiment: str) -> list[str]:
        """Return an experiment's tasks: the scale's change, else the experiment's own, else all tasks of the scale."""
        return self._change(experiment).tasks or self.experiments[experiment].tasks or self.scales[self.scale].tasks

    def grid_of(self, experiment: str) -> dict[str, list[Any]]:
        """Return an experiment's grid: the scale's if it changes it, else the experiment's own."""
        # An empty grid is a valid change (one default run), so test for None instead of truth.
        change = self._change(experiment).grid
        return self.experiments[experiment].grid if change is None else change

    def _change(self, experiment: str) -> ExperimentChange:
        return self.scales[self.scale].experiment_changes.get(experiment, ExperimentChange())

    def algorithm(self, method: str) -> str:
        """Return the name of a method's file in methods/: `algorithm` if its block sets it, else the method's name."""
        return self.methods[method].get("algorithm", method)

    def corpus(self, method: str) -> str | None:
        """Return the corpus that a method trains on instead of the tasks, None if it has none; the last layer wins."""
        layers: list[Any] = [self.methods, self.fidelities[self.fidelity].methods, self.scales[self.scale].methods]
        found = [block["corpus"] for layer in layers for block in [layer.get(method, {})] if "corpus" in block]
        return found[-1] if found else None

    @property
    def other_fidelity(self) -> str:
        """Name of the fidelity in use; empty for the default, which is the first of `fidelities`."""
        return "" if self.fidelity == next(iter(self.fidelities)) else self.fidelity

    @property
    def training_layers(self) -> list[Layer]:
        """Layers of the settings shared by all training runs: general, fidelity, scale."""
        return [("training", self.training)] + [
            (f"{place}.training", block.training) for place, block in self._overrides
        ]

    @property
    def training_at_scale(self) -> dict[str, Any]:
        """Settings shared by all training runs; later layers override earlier ones."""
        return merged(self.training_layers)

    @property
    def _overrides(self) -> list[tuple[str, Overrides]]:
        """The fidelity and the scale in use, in the order in which they override, each with its path."""
        return [
            (f"fidelities.{self.fidelity}", self.fidelities[self.fidelity]),
            (f"scales.{self.scale}", self.scales[self.scale]),
        ]

    def deterministic(self, experiment: str) -> bool:
        """Return True if an evaluation gives the same samples with every seed: greedy tokens, no random order."""
        name = self.experiments[experiment].evaluation
        if name is None:
            return False  # diagnoses sample at a temperature above 0

        # Even at temperature 0 these samplers draw the order in which positions are committed.
        evaluation = self.evaluation(name)
        samplers = [self.sampler(one) for one in evaluation.samplers]
        return evaluation.temperature == 0 and not any(one.draws_order for one in samplers)

    def layers_of(self, method: str, task: str) -> list[Layer]:
        """Return the layers of a method's settings on a task, in the order in which later ones override earlier ones.

        First `training`, then the method's blocks; each in the order general, fidelity, scale.
        """
        # A block's `by_task` comes directly after it, so a value in a later block overrides an earlier `by_task`.
        found = self.training_layers
        blocks: list[tuple[str, Any]] = [(f"methods.{method}", self.methods[method])]
        blocks += [(f"{place}.methods.{method}", block.methods.get(method, {})) for place, block in self._overrides]
        for place, block in blocks:
            own = {key: value for key, value in block.items() if key not in NOT_SETTINGS}
            found += [(place, own), (f"{place}.by_task.{task}", block.get("by_task", {}).get(task, {}))]
        return found

    def settings(self, method: str, task: str) -> dict[str, Any]:
        """Return all settings of a method's runs on a task, merged from `layers_of`."""
        return merged(self.layers_of(method, task))

    def task_layers_of(self, task: str, method: str | None = None) -> list[Layer]:
        """Return the layers of a task's settings: general, fidelity, scale, then those of `method` in that order."""
        found: list[Layer] = [(f"tasks.{task}", self.tasks.get(task, {}))]
        found += [
            (f"{place}.task_settings.{task}", block.task_settings.get(task, {})) for place, block in self._overrides
        ]
        if method is not None:
            blocks: list[tuple[str, Any]] = [(f"methods.{method}", self.methods.get(method, {}))]
            blocks += [(f"{place}.methods.{method}", block.methods.get(method, {})) for place, block in self._overrides]
            found += [
                (f"{place}.task_settings.{task}", block.get("task_settings", {}).get(task, {}))
                for place, block in blocks
            ]
        return found

    def task_settings(self, task: str, method: str | None = None) -> dict[str, Any]:
        """Return all settings of a task: general, fidelity, scale, then those of `method` in the same order.

        Later layers override earlier ones. Prompt files are resolved: none for a terse prompt, and `same` is replaced
        by the training file.
        """
        found = merged(self.task_layers_of(task, method))

        # Resolved here, so that specs and their digests depend only on files that are read.
        if found.get("prompt") == "terse":
            found |= dict.fromkeys(found.keys() & {"prompt_file", "evaluation_prompt_file"}, "")
        if found.get("evaluation_prompt_file") == "same":
            found["evaluation_prompt_file"] = found["prompt_file"]
        return found
