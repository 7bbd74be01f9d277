"""Figures of training runs: functions of scores and training metrics. SFT has no rollouts and is left out.

Runs are smoothed by a moving average over an eighth of the updates, because a buffer has few prompts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from unmask.analysis.figures.style import curves, labels, panels
from unmask.analysis.frames import distinct, select
from unmask.common.catalogue import task_name
from unmask.common.errors import InputError


def training_curves(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean reward of rollouts against gradient updates, a panel per task."""
    return _by_task(metrics, "reward", ylabel="mean reward of rollouts", xlabel="gradient updates")


def reward_by_compute(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean reward of rollouts against FLOPs, those of rollouts included, a panel per task."""
    figure = _by_task(
        metrics,
        "reward",
        ylabel="mean reward of rollouts",
        xlabel="FLOPs of the training (estimate)",
        along="flops",
    )
    for ax in figure.axes:
        ax.set_xscale("log")
    return figure


def rollout_entropy(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean entropy of the distributions that rollouts are drawn from against updates, a panel per task."""
    return _by_task(metrics, "entropy", ylabel="entropy (nats a token)", xlabel="gradient updates")


def _by_task(
    metrics: pd.DataFrame,
    column: str,
    *,
    ylabel: str,
    xlabel: str,
    along: str = "step",
) -> Figure:
    """Plot a column of the metrics, a panel per task."""
    metrics = _with_rollouts(metrics, column)
    tasks = distinct(metrics, "task")
    figure, axes = panels(1, len(tasks))
    ends = []
    highest = -np.inf
    for ax, task in zip(axes[0], tasks, strict=True):
        ends.append(curves(ax, select(metrics, task=task), column, along))
        for line in ax.lines:
            highest = max(highest, np.nanmax(line.get_ydata()))

    # A band may reach beyond any possible reward, so the axis ends a little above the highest mean.
    for ax, task, ends_of_task in zip(axes[0], tasks, ends, strict=True):
        _, top = ax.get_ylim()
        if highest > 0:
            top = min(top, 1.15 * highest)
        ax.set(title=task_name(task), xlabel=xlabel, ylim=(0, top))
        labels(ax, ends_of_task)
    axes[0, 0].set_ylabel(ylabel)
    return figure


def _with_rollouts(metrics: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the updates on rollouts that have a value in `column`. Raises InputError if there is none."""
    # SFT samples nothing, so the NFE of its updates is 0.
    if "nfe" in metrics:
        metrics = metrics[metrics["nfe"] > 0]
    if column in metrics:
        metrics = metrics.dropna(subset=column)
    if column not in metrics or metrics.empty:
        raise InputError(f"no training run has rollouts with a {column} (SFT has no rollouts)")
    return metrics
