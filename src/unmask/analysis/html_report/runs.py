"""Runs of the HTML report: one row per run with its settings, results, training curves and some answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from unmask.analysis.html_report.page import read
from unmask.analysis.scores import read_metrics
from unmask.common.catalogue import method_colour, setting_name
from unmask.common.manifest import read_manifest, seconds_of
from unmask.common.parquet import read_csv, read_rows
from unmask.config.grid.grid import Experiment, Grid
from unmask.config.specs import RunSpec

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
    curves: tuple[Curve, ...] = ()
    answers: tuple[dict[str, object], ...] = ()


def rows(root: Path, grid: Grid, experiments: list[Experiment]) -> list[Row]:
    """Return every run of the experiments once, in their order."""
    # A run of several experiments is shown with the first that evaluates samples, since a diagnosis has no answers.
    evaluated: dict[str, Experiment] = {}
    for experiment in experiments:
        for name in experiment.runs:
            if name not in evaluated or evaluated[name].rows == "steps":
                evaluated[name] = experiment
    scores = {e.name: read_scores(root, grid, e) for e in experiments if e.rows != "steps"}
    return [_row(root / "runs" / name, grid, e, scores.get(e.name)) for name, e in evaluated.items()]


def read_scores(root: Path, grid: Grid, experiment: Experiment) -> pd.DataFrame:
    """Read the scores of an experiment, with the name of each row's run; "" if it was evaluated on another task."""
    file = root / f"scores/{experiment.name}.csv"
    scores = read_csv(file)
    names = {address: name for name in experiment.runs for address in _addresses(grid.runs[name], experiment)}
    address = [f"{s.method}/{s.task}/{s.variant}/seed-{s.seed}" for s in scores.itertuples()]
    return scores.assign(run=[names.get(one, "") for one in address])


def _addresses(run: RunSpec, experiment: Experiment) -> list[str]:
    """Return the addresses of a run in the scores: on its own task, or on every task if it learns a corpus.

    An experiment has one base model, so that addresses in the scores do not name it.
    """
    tasks = experiment.transfers[run.name] if run.corpus else [run.task]
    return [f"{run.method}/{task}/{run.variant}/seed-{run.seed}" for task in tasks]


def _row(folder: Path, grid: Grid, experiment: Experiment, scores: pd.DataFrame | None) -> Row:
    run = RunSpec.read(folder / "spec.yaml")
    values: dict[str, Any] = {"changed": changed(grid, run.name), "colour": method_colour(run.method)}

    if run.trains:
        metrics = read_metrics(folder / "metrics.csv")
        made = read_manifest(folder / "manifest.json")
        curves = [curve(metrics, "reward", "mean reward of rollouts"), curve(metrics, "accuracy", "right rollouts")]
        values["curves"] = tuple(one for one in curves if one)
        # The last smoothed value, which is where the curve ends. SFT has no rollouts and no curve.
        values["reward"] = float(smoothed(sampled(metrics)["reward"]).iloc[-1]) if curves[0] else None
        values["hours"] = seconds_of(made) / 3600
        values["commit"] = made["git"]["commit"][:7] if made["git"] else ""

    if scores is not None:
        right = scores.loc[scores["run"] == run.name, "strict"]
        values["right"] = float(right.mean()) if len(right) else None
        columns = ["sampler", "length", "prompt", "completion", "gold", "strict"]
        samples = read_rows(folder / f"{grid.measured(experiment.name, run.name)[0]}.parquet", columns)
        values["answers"] = tuple(samples.head(ANSWERS).to_dict("records"))
    return Row(run=run, spec=read(folder / "spec.yaml"), **values)


def changed(grid: Grid, name: str) -> str:
    """Format the settings in which a run differs from its method's default."""
    run = grid.runs[name]
    # The default run is on the usual base model. A run on another one is described by its variant.
    if "model~" in name:
        return ", ".join([*([] if run.variant == "default" else [run.variant]), f"model {run.model.partition('/')[0]}"])
    default = grid.runs.get(f"{run.method}/{run.task}/default/seed-{run.seed}")
    # If no experiment has the default, the variant still names what its grid changed.
    if default is None:
        return "" if run.variant == "default" else run.variant.replace("~", " ").replace("+", ", ")
    mine, usual = (one.training | one.method_settings for one in (run, default))
    return ", ".join(setting_name(key, value) for key, value in mine.items() if usual[key] != value)


def sampled(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the updates on rollouts; those of SFT, on demonstrations, have no forward passes."""
    return metrics[metrics["nfe"] > 0]


def smoothed(values: pd.Series) -> pd.Series:
    """Average over the last eighth of the updates, as in the figures, because a buffer has few prompts."""
    return values.rolling(max(1, len(values) // 8), min_periods=1).mean()


def curve(metrics: pd.DataFrame, column: str, title: str) -> Curve | None:
    """Return a column of the metrics against updates as a curve; None if it has no values."""
    kept = sampled(metrics)[["step", column]].dropna()
    if kept.empty:
        return None
    values = smoothed(kept[column])
    low, high, last = float(values.min()), float(values.max()), int(kept["step"].max())
    # Thinned out to at most POINTS, since the page holds the curves of all runs. SVG counts y from the top.
    every = -(-len(kept) // POINTS)
    x = WIDTH * (kept["step"] - 1) / max(1, last - 1)
    y = HEIGHT * (high - values) / ((high - low) or 1.0)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[::every], y[::every], strict=True))
    return Curve(title, points, low, high, last)
