"""What config.yaml may say: every key, its type and what it means.

Here is the whole; its parts are the files of this folder. What a method or task may be set to is declared once, as
fields of the class in its own file, and read from there (declared.py), so adding one needs no change here.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from unmask.config.exact_toy import ExactToy
from unmask.config.experiments import Diagnosis, Evaluation, Experiment
from unmask.config.kinds import Block, Name
from unmask.config.methods import NOT_SETTINGS, MethodBlock
from unmask.config.models import HubModel, LocalModel, ScratchModel
from unmask.config.runtime import Runtime
from unmask.config.samplers import Sampler
from unmask.config.scales import ExperimentChange, Overrides, Scale


class Config(Block):
    """The whole of config.yaml."""

    scale: Name
    fidelity: Name
    runtime: Runtime
    training: dict[str, Any]
    samplers: dict[Name, Sampler]
    evaluations: dict[Name, Evaluation]
    diagnoses: dict[Name, Diagnosis]
    methods: dict[Name, MethodBlock]
    tasks: dict[Name, dict[str, Any]]
    models: dict[Name, Annotated[ScratchModel | HubModel | LocalModel, Field(discriminator="source")]]
    fidelities: dict[Name, Overrides]
    scales: dict[Name, Scale]
    experiments: dict[Name, Experiment]
    exact_toy: ExactToy

    def sampler(self, name: str) -> dict[str, Any]:
        """A sampler's settings at the scale in use: those that the scale gives it, or the general ones."""
        return (self.scales[self.scale].samplers.get(name) or self.samplers[name]).settings()

    def evaluation(self, name: str) -> Evaluation:
        """An evaluation, the later the stronger: general, fidelity, scale."""
        values = self.evaluations[name].model_dump()
        for overrides in (self.fidelities[self.fidelity], self.scales[self.scale]):
            values |= overrides.evaluations.get(name, {})
        return Evaluation(**values)

    @property
    def runtime_at_scale(self) -> Runtime:
        """The runtime settings at the scale in use: the general ones, with those that the scale replaces."""
        return Runtime(**self.runtime.model_dump() | self.scales[self.scale].runtime)

    def methods_of(self, experiment: str) -> list[str]:
        """An experiment's methods at the scale in use: those that the scale gives it, or its own."""
        return self._change(experiment).methods or self.experiments[experiment].methods

    def tasks_of(self, experiment: str) -> list[str]:
        """An experiment's tasks at the scale in use: those that the scale gives it, its own, or all of the scale's."""
        return self._change(experiment).tasks or self.experiments[experiment].tasks or self.scales[self.scale].tasks

    def grid_of(self, experiment: str) -> dict[str, list[Any]]:
        """An experiment's grid at the scale in use: the one that the scale gives it, or its own."""
        change = self._change(experiment).grid
        return self.experiments[experiment].grid if change is None else change

    def _change(self, experiment: str) -> ExperimentChange:
        return self.scales[self.scale].experiment_changes.get(experiment, ExperimentChange())

    def algorithm(self, method: str) -> str:
        """The file of a method: its own name, unless it is another algorithm under other settings."""
        return self.methods[method].get("algorithm", method)

    def corpus(self, method: str) -> str | None:
        """What a method learns in place of each task, if that is a corpus: general, fidelity, scale."""
        layers: list[Any] = [self.methods, self.fidelities[self.fidelity].methods, self.scales[self.scale].methods]
        found = [block["corpus"] for layer in layers for block in [layer.get(method, {})] if "corpus" in block]
        return found[-1] if found else None

    @property
    def other_fidelity(self) -> str:
        """The fidelity in use, or nothing if it is the default, the first of `fidelities`."""
        return "" if self.fidelity == next(iter(self.fidelities)) else self.fidelity

    @property
    def training_at_scale(self) -> dict[str, Any]:
        """What all training runs have in common, the later the stronger: general, fidelity, scale."""
        return self.training | self.fidelities[self.fidelity].training | self.scales[self.scale].training

    def deterministic(self, experiment: str) -> bool:
        """Whether an evaluation gives the same samples with any seed: greedy, in an order without chance."""
        name = self.experiments[experiment].evaluation
        if name is None:
            return False  # a diagnosis samples
        evaluation = self.evaluation(name)
        samplers = [self.sampler(one) for one in evaluation.samplers]
        drawn = any(one["rule"] == "random_order" or one.get("score") == "random" for one in samplers)
        return evaluation.temperature == 0 and not drawn

    def settings(self, method: str, task: str) -> dict[str, Any]:
        """All settings of a method, the later the stronger: of trainings, then its own; general, fidelity, scale."""
        overrides = self.fidelities[self.fidelity], self.scales[self.scale]
        layers: list[Any] = [self.training_at_scale]
        for block in (self.methods[method], *(block.methods.get(method, {}) for block in overrides)):
            layers += [block, block.get("by_task", {}).get(task, {})]
        return {key: value for layer in layers for key, value in layer.items() if key not in NOT_SETTINGS}

    def task_settings(self, task: str, method: str | None = None) -> dict[str, Any]:
        """All settings of a task, the later the stronger: general, fidelity, scale; then a method's own, likewise.

        A terse prompt reads no file, and an evaluation may have the file of training.
        """
        fidelity, scale = self.fidelities[self.fidelity], self.scales[self.scale]
        layers: list[Any] = [self.tasks, fidelity.task_settings, scale.task_settings]
        if method is not None:
            blocks: list[Any] = [self.methods, fidelity.methods, scale.methods]
            layers += [block.get(method, {}).get("task_settings", {}) for block in blocks]
        found = {key: value for layer in layers for key, value in layer.get(task, {}).items()}
        if found.get("prompt") == "terse":
            found |= dict.fromkeys(found.keys() & {"prompt_file", "evaluation_prompt_file"}, "")
        if found.get("evaluation_prompt_file") == "same":
            found["evaluation_prompt_file"] = found["prompt_file"]
        return found
