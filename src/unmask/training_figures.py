"""Figures of trainings: functions of scores and training metrics. Demonstrations (SFT) are no rollouts and left out.

A run is smoothed by its mean over the last eighth of its updates, because a buffer has few prompts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.drawing import labels, line_of, panels
from unmask.names import task_name
from unmask.scores import interval


def training_curves(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Mean reward of the rollouts against gradient updates; a panel a task."""
    return _by_task(metrics, "reward", "mean reward of rollouts", "gradient updates")


def reward_by_compute(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Mean reward of the rollouts against floating-point operations, rollouts included; a panel a task."""
    figure = _by_task(metrics, "reward", "mean reward of rollouts", "FLOPs of the training (estimate)", along="flops")
    for ax in figure.axes:
        ax.set_xscale("log")
    return figure


def rollout_entropy(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Mean entropy of the predictions that rollouts are drawn from against gradient updates; a panel a task."""
    return _by_task(metrics, "entropy", "entropy (nats a token)", "gradient updates")


def importance_ratios(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Variance of the importance weights (mean about 1), and how much is at the limit; two panels.

    DiFFPO: weights of tokens, and the share of them at the clamp C. DMPO: weights of responses, whose variance is
    1 / ESS − 1, and the share of a group's weight that its largest response has.
    """
    nothing = pd.Series(np.nan, index=metrics.index)
    of_tokens = metrics.get("importance_squared", nothing) - metrics.get("importance_mean", nothing) ** 2
    of_responses = 1 / metrics.get("effective_sample_size", nothing) - 1
    limit = metrics.get("clamped", nothing).fillna(metrics.get("largest_weight", nothing))
    found = metrics.assign(variance=of_tokens.fillna(of_responses), limit=limit)
    figure, axes = panels(1, 2)
    for ax, column, name in zip(
        axes[0], ("variance", "limit"), ("variance of importance weights", "share at the limit"), strict=True
    ):
        _curves(ax, found[found[column].notna()], column)
        ax.set(title=name, xlabel="gradient updates")
        ax.yaxis.set_tick_params(labelleft=True)
    return figure


def _by_task(metrics: pd.DataFrame, column: str, ylabel: str, xlabel: str, along: str = "step") -> Figure:
    metrics = metrics[metrics["nfe"] > 0]
    tasks = list(metrics["task"].unique())
    figure, axes = panels(1, len(tasks))
    for ax, task in zip(axes[0], tasks, strict=True):
        _curves(ax, metrics[metrics["task"] == task], column, along)
        ax.set(title=task_name(task), xlabel=xlabel)
    axes[0, 0].set_ylabel(ylabel)
    return figure


def _curves(ax: Axes, metrics: pd.DataFrame, column: str, along: str = "step") -> None:
    """A line a method and variant: the mean over seeds of their smoothed runs, at the mean of `along` at each step."""
    ends: list[tuple[float, float, str, str]] = []
    styles: dict[str, int] = {}
    for (method, variant), runs in metrics.groupby(["method", "variant"], sort=False):
        values = runs.pivot(index="step", columns="seed", values=column)
        smooth = values.rolling(max(1, len(values) // 8), min_periods=1).mean()
        y = np.array([interval(row) for row in smooth.to_numpy()])
        x = runs.groupby("step")[along].mean().to_numpy() if along != "step" else smooth.index.to_numpy()
        style = styles[method] = styles.get(method, -1) + 1
        line_of(ax, x, y, method, marker="", style=style)
        ends.append((x[-1], y[-1, 0], method, variant))
    ax.set_ylim(0, None)
    last = max((end[0] for end in ends), default=0)  # names beside the panel, also of lines that end earlier
    labels(ax, [(last, *end[1:]) for end in ends])
