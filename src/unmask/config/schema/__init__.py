"""Schema of config.yaml: every key, its type and its meaning.

This file has the top level; the other files of the folder have its blocks. Settings of methods and tasks are declared
once, as fields of the class in their own file, and read from there (introspection.py): adding one changes nothing here.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from unmask.config.schema.checkpoints import Checkpoint
from unmask.config.schema.exact_toy import Curve, ExactToy
from unmask.config.schema.experiments import Diagnosis, Evaluation, Experiment
from unmask.config.schema.introspection import declared_names, method_defaults, method_file
from unmask.config.schema.methods import ByTask, MethodBlock
from unmask.config.schema.models import BaseModelSettings
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.samplers import Sampler
from unmask.config.schema.scales import ExperimentChange, Overrides, Scale
from unmask.config.schema.surrogates import Surrogates
from unmask.config.schema.training import Training
from unmask.config.schema.tuning import Tuning
from unmask.config.schema.types import Name, Section, Values, Whole

Layer = tuple[str, Values]  # dotted path of a block in config.yaml, and the settings that it gives


def merged(layers: list[Layer]) -> Values:
    """Return the settings of all layers; later layers override earlier ones."""
    found: Values = {}
    for _, settings in layers:
        found |= settings
    return found


class Config(Section):
    """Validated configuration, with look-ups that merge the general part, the fidelity and the scale in use."""

    scale: Name = Field(description="a name under `scales`; set by the profile")
    fidelity: Name = Field(description="a name under `fidelities`: which settings to use where papers and codes differ")
    limit: Whole = Field(
        default=0,
        description="test problems of each task that are evaluated, the first ones, for a quick trial: tables and "
        "samples have names such as `main-first8`; 0: all",
    )
    runtime: Runtime = Field(description="affects no result, so a change repeats no run")
    training: Values = Field(description="settings of every training run")
    samplers: dict[Name, Sampler] = Field(description="how responses are decoded")
    evaluations: dict[Name, Evaluation] = Field(description="how policies are evaluated")
    diagnoses: dict[Name, Diagnosis] = Field(description="how surrogates are compared with the policy")
    methods: dict[Name, MethodBlock] = Field(description="settings of each method, and its overrides of `training`")
    tasks: dict[Name, Values] = Field(description="problems: sources, splits, prompts, rewards")
    models: dict[Name, BaseModelSettings] = Field(description="base models")
    fidelities: dict[Name, Overrides] = Field(
        description="overrides where papers and codes differ; the first is the default, and results of another NAME "
        "are in results/{scale}-NAME"
    )
    scales: dict[Name, Scale] = Field(description="size and cost of the runs")
    experiments: dict[Name, Experiment] = Field(description="questions, each with the runs that answer it")
    exact_toy: ExactToy = Field(description="experiment on a table of logits, whose responses are all enumerated")
    surrogates: Surrogates = Field(description="experiment that holds every surrogate against enumerated log-ratios")
    checkpoints: dict[Name, Checkpoint] = Field(
        default={}, description="released checkpoints that the target `checkpoints` evaluates"
    )

    def at(self, fidelity: str, scale: str) -> Config:
        """Return the same configuration with another fidelity and scale in use."""
        return self.model_copy(update={"fidelity": fidelity, "scale": scale})

    def sampler(self, name: str) -> Sampler:
        """Return a sampler: the scale's block if it has one, else the general block; no merging."""
        return self.scales[self.scale].samplers.get(name) or self.samplers[name]

    def evaluation(self, name: str) -> Evaluation:
        """Return an evaluation's settings, merged in this order: general, fidelity, scale; later layers override."""
        return Evaluation(**dict(self.unchecked_evaluation(name)))

    def unchecked_evaluation(self, name: str) -> Evaluation:
        """Return an evaluation's settings while the layers that override it may still be wrong."""
        values = dict(self.evaluations[name])
        for _, overrides in self._overrides:
            values |= overrides.evaluations.get(name, {})
        return Evaluation.model_construct(**values)

    @property
    def exact_toy_at_scale(self) -> ExactToy:
        """The exact toy with the scale's overrides."""
        return ExactToy(**self.exact_toy.model_dump() | self.scales[self.scale].exact_toy)

    def curve_settings(self, toy: ExactToy, curve: Curve) -> Values:
        """Return the settings of a curve of the exact toy.

        They are merged in this order: defaults of the method, its general block, `exact_toy.methods`, the curve itself.
        """
        defaults = method_defaults(self.algorithm(curve.method))
        general = self.methods[curve.method].settings
        return defaults | general | toy.methods.get(curve.method, {}) | curve.settings

    @property
    def runtime_at_scale(self) -> Runtime:
        """Runtime settings with the scale's overrides."""
        return Runtime(**self.runtime.model_dump() | self.scales[self.scale].runtime)

    def methods_of(self, experiment: str) -> list[str]:
        """Return an experiment's methods: the scale's if it changes them, else the experiment's own."""
        return self._change(experiment).methods or self.experiments[experiment].methods

    def tasks_of(self, experiment: str) -> list[str]:
        """Return an experiment's tasks: the scale's change, else the experiment's own, else all tasks of the scale."""
        own = self._change(experiment).tasks or self.experiments[experiment].tasks
        if own or self.scale not in self.scales:
            return own or []
        return self.scales[self.scale].tasks

    def grid_of(self, experiment: str) -> dict[str, list[Any]]:
        """Return an experiment's grid: the scale's if it changes it, else the experiment's own."""
        # An empty grid is a valid change (one default run), so test for None instead of truth.
        change = self._change(experiment).grid
        return self.experiments[experiment].grid if change is None else change

    @property
    def tuning(self) -> Tuning | None:
        """Candidates of the scale in use; None for other fidelities, whose values are those of papers and codes."""
        return None if self.other_fidelity else self.scales[self.scale].tuning

    def seeds_of(self, experiment: str) -> list[int]:
        """Return an experiment's seeds: the scale's for the experiment, else those of the scale."""
        return self._change(experiment).seeds or self.scales[self.scale].seeds

    def models_of(self, experiment: str) -> list[str]:
        """Return the names of an experiment's base models at the scale in use."""
        scale = self.scales[self.scale]
        keys = self.experiments[experiment].model_keys
        # While a configuration is checked, a key may be missing.
        return [scale.models.get(key, scale.model) for key in keys] or [scale.model]

    def is_apart(self, experiment: str) -> bool:
        """Return whether the target `everything` leaves an experiment out: by the scale, else by the experiment."""
        change = self._change(experiment).apart
        return self.experiments[experiment].apart if change is None else change

    def _change(self, experiment: str) -> ExperimentChange:
        scale = self.scales.get(self.scale)
        return (scale.experiment_changes.get(experiment) if scale else None) or ExperimentChange()

    def algorithm(self, method: str) -> str:
        """Return the name of a method's file in methods/: `algorithm` if its block sets it, else the method's name."""
        block = self.methods.get(method)
        return block.algorithm if block and block.algorithm else method

    def corpus(self, method: str) -> str | None:
        """Return the corpus that a method trains on instead of the tasks, None if it has none; the last layer wins."""
        found = None
        for _, block in self._method_blocks(method):
            found = block.corpus or found
        return found

    @property
    def other_fidelity(self) -> str:
        """Name of the fidelity in use; empty for the default, which is the first of `fidelities`."""
        return "" if self.fidelity == next(iter(self.fidelities)) else self.fidelity

    @property
    def ending(self) -> str:
        """Ending of the names of limited experiments and evaluations, such as `-first8`; empty without a limit."""
        return f"-first{self.limit}" if self.limit else ""

    @property
    def training_layers(self) -> list[Layer]:
        """Layers of the settings shared by all training runs: general, fidelity, scale."""
        found: list[Layer] = [("training", self.training)]
        for place, overrides in self._overrides:
            found.append((f"{place}.training", overrides.training))
        return found

    @property
    def training_at_scale(self) -> Training:
        """Settings shared by all training runs, without those that only methods set."""
        return Training.model_construct(**merged(self.training_layers))

    @property
    def _overrides(self) -> list[tuple[str, Overrides]]:
        """The fidelity and the scale in use, in the order in which they override, each with its path."""
        # While a configuration is checked, the name of one may be wrong.
        found: list[tuple[str, Overrides]] = []
        if self.fidelity in self.fidelities:
            found.append((f"fidelities.{self.fidelity}", self.fidelities[self.fidelity]))
        if self.scale in self.scales:
            found.append((f"scales.{self.scale}", self.scales[self.scale]))
        return found

    def _method_blocks(self, method: str) -> list[tuple[str, ByTask]]:
        """Return the blocks of a method: general, fidelity, scale."""
        found: list[tuple[str, ByTask]] = []
        if method in self.methods:
            found.append((f"methods.{method}", self.methods[method]))
        for place, overrides in self._overrides:
            if method in overrides.methods:
                found.append((f"{place}.methods.{method}", overrides.methods[method]))
        return found

    def deterministic(self, experiment: str) -> bool:
        """Return True if an evaluation gives the same samples with every seed: greedy tokens, no random order."""
        name = self.experiments[experiment].evaluation
        if name is None:
            return False  # diagnoses sample at a temperature above 0

        # Even at temperature 0 these samplers draw the order in which positions are committed.
        evaluation = self.evaluation(name)
        samplers = [self.sampler(one) for one in evaluation.samplers]
        return evaluation.temperature == 0 and not any(one.draws_order for one in samplers)

    def tasks_with_settings(self, method: str) -> list[str]:
        """Return the tasks for which a method has settings of its own, in any of its blocks."""
        return list(dict.fromkeys(task for _, block in self._method_blocks(method) for task in block.by_task))

    def layers_of(self, method: str, task: str) -> list[Layer]:
        """Return the layers of a method's settings on a task, in the order in which later ones override earlier ones.

        First `training`, then the defaults in the method's file, then the method's blocks; `training` and the blocks in
        the order general, fidelity, scale.
        """
        found = self.training_layers
        algorithm = self.algorithm(method)
        if algorithm in declared_names("methods"):
            found.append((method_file(algorithm), method_defaults(algorithm)))
        # A block's `by_task` comes directly after it, so a value in a later block overrides an earlier `by_task`.
        for place, block in self._method_blocks(method):
            found.append((place, block.settings))
            found.append((f"{place}.by_task.{task}", block.by_task.get(task, {})))
        return found

    def settings(self, method: str, task: str) -> Values:
        """Return all settings of a method's runs on a task, merged from `layers_of`."""
        return merged(self.layers_of(method, task))

    def task_layers_of(self, task: str, method: str | None = None) -> list[Layer]:
        """Return the layers of a task's settings: general, fidelity, scale, then those of `method` in that order."""
        found: list[Layer] = [(f"tasks.{task}", self.tasks.get(task, {}))]
        for place, overrides in self._overrides:
            found.append((f"{place}.task_settings.{task}", overrides.task_settings.get(task, {})))
        for place, block in self._method_blocks(method) if method else []:
            found.append((f"{place}.task_settings.{task}", block.task_settings.get(task, {})))
        return found

    def task_settings(self, task: str, method: str | None = None) -> Values:
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
