"""Runs of the HTML report: one row per run with its settings, results, curves, some answers and its files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from unmask.analysis import collapses
from unmask.analysis.frames import select
from unmask.analysis.html_report.answers import Answers, read_answers
from unmask.analysis.html_report.curves import Curve, curves, sampled, smoothed
from unmask.analysis.html_report.links import File, Folders
from unmask.analysis.html_report.page import read
from unmask.analysis.scores import read_metrics
from unmask.common.catalogue import setting_name
from unmask.common.manifest import read_manifest, seconds_of
from unmask.common.parquet import read_csv
from unmask.config.grid.grid import Experiment, Grid
from unmask.config.specs import RunSpec
from unmask.methods import method_colour


@dataclass(frozen=True)
class Row:
    """Row of a run; None for what it does not have: a base model is not trained, a diagnosis grades no answers."""

    run: RunSpec
    changed: str
    colour: str
    spec: str  # the text of spec.yaml
    reward: float | None = None  # mean of rollouts over the last eighth of the updates
    right: float | None = None  # strict accuracy over all lengths and samplers of its evaluation
    hours: float | None = None
    commit: str = ""
    alarm: str = ""  # causes of the collapse alarm, each with its first update
    curves: dict[str, Curve] = field(default_factory=dict)  # by column of metrics.csv
    answers: Answers | None = None
    files: tuple[File, ...] = ()


def rows(folders: Folders, grid: Grid, experiments: list[Experiment]) -> list[Row]:
    """Return every run of the experiments once, in their order."""
    # A run of several experiments is shown with the first that evaluates samples, since a diagnosis has no answers.
    evaluated: dict[str, Experiment] = {}
    for experiment in experiments:
        for name in experiment.runs:
            shown_with = evaluated.get(name)
            if shown_with is None or shown_with.rows == "steps":
                evaluated[name] = experiment

    scores = {}
    for experiment in experiments:
        if experiment.rows != "steps":
            scores[experiment.name] = read_scores(folders.results, grid, experiment)

    found = []
    for name, experiment in evaluated.items():
        row = _row(folders, grid, experiment, name, scores.get(experiment.name))
        found.append(row)
    return found


def read_scores(root: Path, grid: Grid, experiment: Experiment) -> pd.DataFrame:
    """Read the scores of an experiment, with the name of each row's run; "" if it was evaluated on another task."""
    names = {}
    for name in experiment.runs:
        for address in _addresses(grid.runs[name], experiment):
            names[address] = name

    scores = read_csv(root / f"scores/{experiment.name}.csv")
    runs = []
    for row in scores.itertuples():
        address = _address(row.method, row.task, row.variant, row.seed)
        runs.append(names.get(address, ""))
    return scores.assign(run=runs)


def _addresses(run: RunSpec, experiment: Experiment) -> list[str]:
    """Return the addresses of a run in the scores: on its own task, or on every task if it learns a corpus.

    An experiment has one base model, so that addresses in the scores do not name it.
    """
    tasks = [run.task]
    if run.corpus:
        tasks = experiment.transfers[run.name]
    return [_address(run.method, task, run.variant, run.seed) for task in tasks]


def _address(method: str, task: str, variant: str, seed: int) -> str:
    return f"{method}/{task}/{variant}/seed-{seed}"


def _row(
    folders: Folders,
    grid: Grid,
    experiment: Experiment,
    name: str,
    scores: pd.DataFrame | None,
) -> Row:
    folder = folders.results / "runs" / name
    file = folder / "spec.yaml"
    run = RunSpec.read(file)
    row = Row(
        run=run,
        changed=changed(grid, run.name),
        colour=method_colour(run.method),
        spec=read(file),
    )
    if run.trains:
        row = _with_training(row, folder)
    # The files that every run of its kind has; a run after a corpus is evaluated on every task.
    measured = grid.measured(experiment.name, name)
    trained = ["metrics.csv", "manifest.json"] if run.trains else []
    names = ["spec.yaml", *trained, *(f"{stem}.parquet" for stem in measured)]
    row = replace(row, files=tuple(folders.files(*(f"runs/{name}/{one}" for one in names))))
    if scores is not None:
        row = _with_answers(row, folder, scores, measured[0])
    return row


def _with_training(row: Row, folder: Path) -> Row:
    """Add the training of a run, read from its metrics and its manifest."""
    file = folder / "metrics.csv"
    metrics = read_metrics(file)
    made = read_manifest(folder / "manifest.json")

    # The last smoothed value, which is where the curve ends. SFT has no rollouts and no reward.
    last_reward = None
    rewards = sampled(metrics)["reward"].dropna()
    if len(rewards):
        last_reward = float(smoothed(rewards).iloc[-1])
    commit = ""
    if made["git"]:
        commit = made["git"]["commit"][:7]
    return replace(
        row,
        reward=last_reward,
        hours=seconds_of(made) / 3600,
        commit=commit,
        alarm=collapses.mark(metrics),
        curves=curves(read_csv(file)),
    )


def _with_answers(row: Row, folder: Path, scores: pd.DataFrame, stem: str) -> Row:
    """Add the accuracy of a run and its first answers, read from the samples in `stem`.parquet."""
    strict = select(scores, run=row.run.name)["strict"]
    right = None
    if len(strict):
        right = float(strict.mean())
    return replace(row, right=right, answers=read_answers(folder / f"{stem}.parquet"))


def changed(grid: Grid, name: str) -> str:
    """Format the settings in which a run differs from its method's default."""
    run = grid.runs[name]
    # The default run is on the usual base model. A run on another one is described by its variant.
    if "model~" in name:
        base, _, _ = run.model.partition("/")
        if run.variant == "default":
            return f"model {base}"
        return f"{run.variant}, model {base}"

    # If no experiment has the default, the variant still names what its grid changed.
    address = _address(run.method, run.task, "default", run.seed)
    default = grid.runs.get(address)
    if default is None and run.variant == "default":
        return ""
    if default is None:
        return run.variant.replace("~", " ").replace("+", ", ")

    usual = default.training.values() | default.method_settings
    own = run.training.values() | run.method_settings
    names = [setting_name(key, value) for key, value in own.items() if value != usual[key]]
    return ", ".join(names)
