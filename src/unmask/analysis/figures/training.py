"""Figures of training runs: functions of scores and training metrics. SFT has no rollouts and is left out.

Runs are smoothed by a moving average over an eighth of the updates, because a buffer has few prompts. Points at the
right are the last values of single seeds.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from unmask.analysis.figures.counts import of_metrics
from unmask.analysis.figures.drawing import curves, highest
from unmask.analysis.figures.looks import lines_of
from unmask.analysis.figures.style import finish, handles_of, panels
from unmask.analysis.frames import distinct, select
from unmask.common.catalogue import task_name
from unmask.common.errors import InputError


def training_curves(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean reward of rollouts against gradient updates, a panel per task."""
    return _by_task(metrics, "reward", ylabel="mean reward of rollouts", xlabel="gradient updates")


def reward_by_compute(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean reward of rollouts against FLOPs, those of rollouts included, a panel per task."""
    xlabel = "FLOPs of the training (estimate)"
    return _by_task(metrics, "reward", ylabel="mean reward of rollouts", xlabel=xlabel, along="flops")


def rollout_entropy(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean entropy of the distributions that rollouts are drawn from against updates, a panel per task."""
    return _by_task(metrics, "entropy", ylabel="entropy (nats per token)", xlabel="gradient updates")


def partial_credit(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the share of rollouts that earn a reward although they are wrong against updates, a panel per task."""
    return _by_task(metrics, "partial_credit", ylabel="wrong rollouts with a reward (share)", xlabel="gradient updates")


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
    lines = lines_of(metrics, metrics)
    tasks = distinct(metrics, "task")
    figure, axes = panels(1, len(tasks))
    for ax, task in zip(axes[0], tasks, strict=True):
        # Scale first: the places of single seeds depend on it.
        ax.set_xscale("log" if along == "flops" else "linear")
        curves(ax, select(metrics, task=task), column, lines, along)
        ax.set(title=task_name(task), xlabel=xlabel)

    # A band may reach beyond any possible reward, so the axis ends a little above the highest mean or seed.
    most = max(highest(ax) for ax in axes[0])
    _, top = axes[0, 0].get_ylim()
    if most > 0:
        top = min(top, 1.15 * most)
    axes[0, 0].set(ylim=(0, top), ylabel=ylabel)
    return finish(figure, handles_of(lines.values()), of_metrics(metrics))


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
