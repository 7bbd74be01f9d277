"""Expansion of config.yaml into every run, model, dataset and experiment of a scale, or one list of all mistakes.

Torch-free: the Snakefile calls `expand` while it is parsed, so mistakes are found before anything runs, also with -n.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from unmask.config.errors import ConfigError
from unmask.config.grid.builders import data_specs, diagnosis_spec, evaluation_spec, model_spec, toy_spec
from unmask.config.grid.checkpoints import add_checkpoints
from unmask.config.grid.consistency import contradictions, too_long, undrawable
from unmask.config.grid.grid import Candidate, Experiment, Grid
from unmask.config.grid.runs import runs_of, start_of, tuning_runs
from unmask.config.loading import RawConfig
from unmask.config.normalize import normalise
from unmask.config.schema import Config
from unmask.config.schema.introspection import is_corpus
from unmask.config.specs import EvaluationSpec, RunSpec, SurrogatesSpec
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
    grid = Grid(
        scale=config.scale,
        wanted=[f"{name}{config.ending}" for name in scale.experiments],
        exact_toy=toy_spec(config),
        surrogates=SurrogatesSpec(config.surrogates),
        cost=scale.cost,
        runtime=config.runtime_at_scale,
        fidelity=config.other_fidelity,
        ending=config.ending,
        warnings=warnings,
    )
    for name in config.evaluations:
        grid.evaluations[name] = evaluation_spec(config, name)
    for name in config.diagnoses:
        grid.diagnoses[name] = diagnosis_spec(config, name)
    for task in scale.tasks:
        _add_data(grid, config, task)

    # `made` keeps every run, also several of one name: contradictions() compares them, the grid holds the last only.
    made: list[RunSpec] = []
    lines: list[str] = []
    for name, block in config.experiments.items():
        runs = runs_of(config, name)
        made += _add_runs(grid, config, runs)
        experiment = _add_experiment(grid, config, name, runs)
        lines += undrawable(name, block.figures, config.grid_of(name), runs)
        lines += too_long(experiment, config.scale, runs)
    for sweep, name, candidates in tuning_runs(config):
        grid.sweeps.setdefault(sweep, []).append(name)
        grid.tuning[name] = []
        for settings, runs in candidates:
            made += _add_runs(grid, config, runs)
            grid.tuning[name].append(Candidate(settings, [run.name for run in runs]))
    add_checkpoints(grid, config)
    for released in grid.checkpoints.values():
        for task in released.tasks:
            _add_data(grid, config, task)
    lines += contradictions(made, grid.datasets, grid.tests, grid.cost)
    if lines:
        raise ConfigError(lines)

    _add_inputs(grid)
    return grid


def _add_runs(grid: Grid, config: Config, runs: list[RunSpec]) -> list[RunSpec]:
    """Add runs to the grid with their base models and data, and return them after those that they start from."""
    # Runs that others start from may belong to no experiment.
    starts = [start_of(config, run) for run in runs if run.start_from]
    for run in starts + runs:
        grid.runs[run.name] = run
        if run.model not in grid.models:
            grid.models[run.model] = model_spec(config, run)
        # A corpus and pretraining need data of more tasks.
        _add_data(grid, config, run.task)
        for task in grid.models[run.model].tasks:
            _add_data(grid, config, task)
    return starts + runs


def _add_data(grid: Grid, config: Config, task: str) -> None:
    """Add the data specs of a task to the grid; a corpus has no test data."""
    if task not in grid.datasets:
        grid.datasets[task], test = data_specs(config, task)
        if not is_corpus(task):
            grid.tests[task] = test


def _add_experiment(grid: Grid, config: Config, name: str, runs: list[RunSpec]) -> Experiment:
    """Add an experiment over these runs to the grid, with the evaluations that it needs on other tasks or limited."""
    block = config.experiments[name]
    if config.limit and block.evaluation:
        _add_evaluation(grid, config, evaluation_spec(config, block.evaluation, limit=config.limit))
    if config.limit and block.diagnosis:
        diagnosis = diagnosis_spec(config, block.diagnosis, limit=config.limit)
        grid.diagnoses[diagnosis.name] = diagnosis
    tasks = config.tasks_of(name)
    for task in tasks:
        _add_data(grid, config, task)

    transfers = {}
    for run in runs:
        # The base model is trained on no task, so it has nothing to transfer. A corpus is evaluated by transfer only.
        if run.corpus or (run.trains and block.transfer):
            transfers[run.name] = [task for task in tasks if task != run.task]

    # Transfer to another task is a separate evaluation: its spec has the other task's prompt settings.
    for task in itertools.chain(*transfers.values()):
        _add_evaluation(grid, config, evaluation_spec(config, block.evaluation or "", task, config.limit))

    stem = f"samples-{block.evaluation}{config.ending}"
    rows: str = block.rows
    if block.diagnosis:
        stem = f"diagnosis-{block.diagnosis}{config.ending}"
        rows = "steps"
    # The files of a limited experiment are its own, and its question, the title of its tables, says what it is.
    question = block.question
    if config.limit:
        question += f" (trial: only the first {config.limit} test problems of each task)"
    made = Experiment(
        name=f"{name}{config.ending}",
        question=question,
        runs=list(dict.fromkeys(run.name for run in runs)),
        evaluation_stem=stem,
        transfers=transfers,
        rows=rows,
        figures=block.figures,
        section=block.section,
        apart=config.is_apart(name),
    )
    grid.experiments[made.name] = made
    return made


def _add_evaluation(grid: Grid, config: Config, spec: EvaluationSpec) -> None:
    """Add an evaluation whose name is not that of a block. Raises ConfigError if there is such a block."""
    if spec.name in config.evaluations:
        raise ConfigError([f"evaluations.{spec.name}: reserved for transfers between tasks and for limits; rename it"])
    grid.evaluations[spec.name] = spec


def _add_inputs(grid: Grid) -> None:
    """Add to each run the digests of what it starts from."""
    # Runs without `start_from` come first: the digests of others cover theirs.
    first = [run for run in grid.runs.values() if run.start_from is None]
    then = [run for run in grid.runs.values() if run.start_from is not None]
    for run in first + then:
        inputs = {"model": grid.models[run.model].digest}
        if run.start_from:
            inputs["start"] = grid.runs[run.start_from].digest
        grid.runs[run.name] = replace(run, inputs=inputs)
