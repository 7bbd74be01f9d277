"""Expansion of config.yaml into every run, model, dataset and experiment of a scale, or one list of all mistakes.

Torch-free: the Snakefile calls `expand` while it is parsed, so mistakes are found before anything runs, also with -n.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from unmask.config.errors import ConfigError
from unmask.config.grid.builders import data_specs, diagnosis_spec, evaluation_spec, model_spec, toy_spec
from unmask.config.grid.consistency import contradictions, too_long, undrawable
from unmask.config.grid.grid import Experiment, Grid
from unmask.config.grid.runs import runs_of, start_of
from unmask.config.loading import RawConfig
from unmask.config.normalize import normalise
from unmask.config.schema import Config
from unmask.config.schema.introspection import is_corpus
from unmask.config.specs import RunSpec
from unmask.config.validation import check, check_scale


def expand(raw: RawConfig) -> Grid:
    """Return the grid of the scale named by `raw["scale"]`; raises ConfigError with all mistakes that can be found."""
    return grid_of(*checked(raw))


def checked(raw: RawConfig) -> tuple[Config, list[str]]:
    """Return the typed configuration, and the mistakes in other scales; raises ConfigError with all mistakes."""
    # Checks come in stages, each on input that passed the one before: blocks, then how they fit.
    config, warnings = check(normalise(raw))
    check_scale(config)
    return config, warnings


def grid_of(config: Config, warnings: list[str]) -> Grid:
    """Return the grid of a checked configuration; raises ConfigError if its merged settings contradict each other."""
    scale = config.scales[config.scale]
    carried_out = scale.cost, config.runtime_at_scale, config.other_fidelity
    grid = Grid(config.scale, scale.experiments, toy_spec(config), *carried_out, warnings)

    for task in itertools.chain(scale.tasks, *map(config.tasks_of, config.experiments)):
        _add_data(grid, config, task)
    for name in config.evaluations:
        grid.evaluations[name] = evaluation_spec(config, name)
    for name in config.diagnoses:
        grid.diagnoses[name] = diagnosis_spec(config, name)

    # `made` keeps every run, also several of one name: contradictions() compares them, the grid holds the last only.
    made: list[RunSpec] = []
    lines: list[str] = []
    for name, experiment in config.experiments.items():
        runs = runs_of(config, name)
        lines += undrawable(name, experiment.figures, config.grid_of(name), runs)

        # Runs that others start from may belong to no experiment; a corpus and pretraining need data of more tasks.
        starts = [start_of(config, run) for run in runs if run.start_from]
        made += starts + runs
        for run in starts + runs:
            grid.runs[run.name] = run
            grid.models.setdefault(run.model, model_spec(config, run))
            for task in (run.task, *grid.models[run.model].tasks):
                _add_data(grid, config, task)
        grid.experiments[name] = _experiment(name, experiment, runs, config.tasks_of(name))
        lines += too_long(grid.experiments[name], config.scale, runs)

        # Transfer to another task is a separate evaluation: its spec has the other task's prompt settings.
        for other in itertools.chain(*grid.experiments[name].transfers.values()):
            spec = evaluation_spec(config, experiment.evaluation or "", other)
            if spec.name in config.evaluations:
                raise ConfigError([f"evaluations.{spec.name}: reserved for transfers between tasks; rename it"])
            grid.evaluations[spec.name] = spec
    if lines := lines + contradictions(made, grid.datasets, grid.tests):
        raise ConfigError(lines)

    # A digest covers everything upstream, so runs without `start_from` come first: others include their digest.
    for name, run in sorted(grid.runs.items(), key=lambda named: named[1].start_from is not None):
        inputs = {"model": grid.models[run.model].digest}
        if run.start_from:
            inputs["start"] = grid.runs[run.start_from].digest
        grid.runs[name] = replace(run, inputs=inputs)
    return grid


def _add_data(grid: Grid, config: Config, task: str) -> None:
    """Add the data specs of a task to the grid; a corpus has no test data."""
    if task not in grid.datasets:
        grid.datasets[task], test = data_specs(config, task)
        if not is_corpus(task):
            grid.tests[task] = test


def _experiment(name: str, experiment: Any, runs: list[RunSpec], tasks: list[str]) -> Experiment:
    """Return the experiment over these runs, with the tasks that each run is transferred to."""
    evaluated = f"diagnosis-{experiment.diagnosis}" if experiment.diagnosis else f"samples-{experiment.evaluation}"
    rows = "steps" if experiment.diagnosis else experiment.rows

    # The base model is trained on no task, so it has nothing to transfer. A corpus is evaluated by transfer only.
    carried = [run for run in runs if run.corpus or (run.trains and experiment.transfer)]
    transfers = {run.name: [task for task in tasks if task != run.task] for run in carried}

    names = list(dict.fromkeys(run.name for run in runs))
    kept = experiment.figures, experiment.section, experiment.apart
    return Experiment(name, experiment.question, names, evaluated, transfers, rows, *kept)
