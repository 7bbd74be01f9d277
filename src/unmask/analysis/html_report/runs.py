"""Runs of the HTML report: one row per run with its settings, results, training curves and some answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from unmask.analysis import collapses
from unmask.analysis.frames import select
from unmask.analysis.html_report.page import read
from unmask.analysis.scores import read_metrics
from unmask.common.catalogue import setting_name
from unmask.common.manifest import read_manifest, seconds_of
from unmask.common.parquet import read_csv, read_rows
from unmask.config.grid.grid import Experiment, Grid
from unmask.config.specs import RunSpec
from unmask.methods import method_colour

WIDTH, HEIGHT = 320, 100  # of a curve, in units of its SVG
POINTS = 100  # at most, in a curve
ANSWERS = 3


@dataclass(frozen=True)
class Curve:
    """Line in a box of WIDTH × HEIGHT, from update 1 at the left to `last` at the right."""

    title: str
    points: str  # "x,y x,y …", the points of an SVG polyline
    low: float
    high: float
    last: int


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
    curves: tuple[Curve, ...] = ()
    answers: tuple[dict[str, object], ...] = ()


def rows(root: Path, grid: Grid, experiments: list[Experiment]) -> list[Row]:
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
            scores[experiment.name] = read_scores(root, grid, experiment)

    found = []
    for name, experiment in evaluated.items():
        folder = root / "runs" / name
        row = _row(folder, grid, experiment, scores.get(experiment.name))
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
    folder: Path,
    grid: Grid,
    experiment: Experiment,
    scores: pd.DataFrame | None,
) -> Row:
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
    if scores is not None:
        # A run after a corpus is evaluated on every task: the first one is shown.
        first, *_ = grid.measured(experiment.name, run.name)
        row = _with_answers(row, folder, scores, first)
    return row


def _with_training(row: Row, folder: Path) -> Row:
    """Add the training of a run, read from its metrics and its manifest."""
    metrics = read_metrics(folder / "metrics.csv")
    made = read_manifest(folder / "manifest.json")
    reward = curve(metrics, "reward", "mean reward of rollouts")
    accuracy = curve(metrics, "accuracy", "right rollouts")

    # The last smoothed value, which is where the curve ends. SFT has no rollouts and no curve.
    last_reward = None
    if reward:
        of_rollouts = smoothed(sampled(metrics)["reward"])
        last_reward = float(of_rollouts.iloc[-1])
    commit = ""
    if made["git"]:
        commit = made["git"]["commit"][:7]
    curves = [one for one in (reward, accuracy) if one]
    return replace(
        row,
        reward=last_reward,
        hours=seconds_of(made) / 3600,
        commit=commit,
        alarm=collapses.mark(metrics),
        curves=tuple(curves),
    )


def _with_answers(row: Row, folder: Path, scores: pd.DataFrame, stem: str) -> Row:
    """Add the accuracy of a run and its first answers, read from the samples in `stem`.parquet."""
    strict = select(scores, run=row.run.name)["strict"]
    columns = ["sampler", "length", "prompt", "completion", "gold", "strict"]
    samples = read_rows(folder / f"{stem}.parquet", columns)
    right = None
    if len(strict):
        right = float(strict.mean())
    answers = samples.head(ANSWERS).to_dict("records")
    return replace(row, right=right, answers=tuple(answers))


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


def sampled(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the updates on rollouts; those of SFT, on demonstrations, have no forward passes."""
    return metrics[metrics["nfe"] > 0]


def smoothed(values: pd.Series) -> pd.Series:
    """Average over the last eighth of the updates, as in the figures, because a buffer has few prompts."""
    updates = max(1, len(values) // 8)
    return values.rolling(updates, min_periods=1).mean()


def curve(metrics: pd.DataFrame, column: str, title: str) -> Curve | None:
    """Return a column of the metrics against updates as a curve; None if it has no values."""
    kept = sampled(metrics)[["step", column]].dropna()
    if kept.empty:
        return None

    steps = kept["step"]
    last = int(steps.max())
    values = smoothed(kept[column])
    low = float(values.min())
    high = float(values.max())
    # Thinned out to at most POINTS, since the page holds the curves of all runs. SVG counts y from the top.
    every = math.ceil(len(kept) / POINTS)
    x = WIDTH * (steps - 1) / max(1, last - 1)
    span = (high - low) or 1.0  # of a constant curve
    y = HEIGHT * (high - values) / span
    thinned = zip(x[::every], y[::every], strict=True)
    points = [f"{right:.1f},{down:.1f}" for right, down in thinned]
    return Curve(title, " ".join(points), low, high, last)
