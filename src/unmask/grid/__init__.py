"""config.yaml -> every run, model, dataset and experiment of a scale, or all that is wrong with it at once.

Torch-free: the Snakefile calls `expand` while it is parsed, so a mistake is found before anything runs, also with -n.
"""

from __future__ import annotations

import itertools
from typing import Any

from unmask.config import Config
from unmask.grid.contradictions import contradictions, too_long, undrawable
from unmask.grid.pilot import with_pilot
from unmask.grid.runs import runs_of, start_of
from unmask.grid.specs import evaluation_spec, model_spec, toy_spec
from unmask.grid.work import Experiment, Grid
from unmask.mistakes import ConfigError, check, check_scale
from unmask.plain import normalise
from unmask.spec import DataSpec, DiagnosisSpec, Run


def expand(raw: dict[str, Any]) -> Grid:
    """The grid of the scale that `raw['scale']` names. Raises ConfigError with every mistake."""
    raw = with_pilot(normalise(raw))
    raw, warnings = check(raw)
    config = Config.model_validate(raw)
    check_scale(config)
    scale = config.scales[config.scale]
    grid = Grid(config.scale, scale.experiments, toy_spec(config), scale.cost, config.runtime_at_scale, warnings)
    for task in itertools.chain(scale.tasks, *map(config.tasks_of, config.experiments)):
        grid.datasets[task] = DataSpec(task, config.task_settings(task))
    for name in config.evaluations:
        grid.evaluations[name] = evaluation_spec(config, name)
    for name, diagnosis in config.diagnoses.items():
        sampler = config.sampler(diagnosis.sampler)
        grid.diagnoses[name] = DiagnosisSpec(name, sampler, diagnosis.temperature, diagnosis.examples)
    made: list[Run] = []
    lines: list[str] = []
    for name, experiment in config.experiments.items():
        runs = runs_of(config, name)
        lines += undrawable(name, experiment.figures, config.grid_of(name), runs)
        starts = [start_of(config, run) for run in runs if run.start_from]
        made += starts + runs
        for run in starts + runs:
            grid.runs[run.name] = run
            grid.models.setdefault(run.model, model_spec(config, run))
            grid.datasets.setdefault(run.task, DataSpec(run.task, run.task_settings))
            for task, settings in grid.models[run.model].tasks.items():
                grid.datasets.setdefault(task, DataSpec(task, settings))
        grid.experiments[name] = _experiment(name, experiment, runs, config.tasks_of(name))
        lines += too_long(grid.experiments[name], config.scale, runs)
        for other in itertools.chain(*grid.experiments[name].transfers.values()):
            spec = evaluation_spec(config, experiment.evaluation or "", other)
            if spec.name in config.evaluations:
                raise ConfigError([f"evaluations.{spec.name}: the name of a transfer between tasks; choose another"])
            grid.evaluations[spec.name] = spec
    if lines := lines + contradictions(made, grid.datasets):
        raise ConfigError(lines)
    return grid


def _experiment(name: str, experiment: Any, runs: list[Run], tasks: list[str]) -> Experiment:
    """The experiment over these runs; the base model knows no task that it could carry to another."""
    examined = f"diagnosis-{experiment.diagnosis}" if experiment.diagnosis else f"samples-{experiment.evaluation}"
    rows = "steps" if experiment.diagnosis else experiment.rows
    carried = [run for run in runs if run.corpus or (run.trains and experiment.transfer)]
    transfers = {run.name: [task for task in tasks if task != run.task] for run in carried}
    names = list(dict.fromkeys(run.name for run in runs))
    kept = experiment.figures, experiment.section, experiment.apart
    return Experiment(name, experiment.question, names, examined, transfers, rows, *kept)
