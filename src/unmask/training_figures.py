"""Figures of training runs: functions of scores and training metrics. SFT has no rollouts and is left out.

Runs are smoothed by a moving average over an eighth of the updates, because a buffer has few prompts.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from unmask.common.catalogue import method_name, task_name
from unmask.common.errors import InputError
from unmask.drawing import heading, labels, line_of, means, panels, plt

End = tuple[float, float, str, str]  # x and y of a line's end, its method and variant
BIN = "weight_from_"  # prefix of metrics columns with the share of weights in a bin; its lower edge follows


def training_curves(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean reward of rollouts against gradient updates, a panel per task."""
    return _by_task(metrics, "reward", "mean reward of rollouts", "gradient updates")


def reward_by_compute(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean reward of rollouts against FLOPs, those of rollouts included, a panel per task."""
    figure = _by_task(metrics, "reward", "mean reward of rollouts", "FLOPs of the training (estimate)", along="flops")
    for ax in figure.axes:
        ax.set_xscale("log")
    return figure


def rollout_entropy(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the mean entropy of the distributions that rollouts are drawn from against updates, a panel per task."""
    return _by_task(metrics, "entropy", "entropy (nats a token)", "gradient updates")


def importance_ratios(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the variance of the importance weights (mean about 1), and the share at the limit, in two panels.

    DiFFPO: weights of tokens, and the share of them at the clamp C. DMPO: weights of responses, whose variance is
    1 / ESS − 1, and the share of a group's weight that its largest response has. Raises InputError if no run has them.
    """
    # A run logs only its method's columns; missing ones are NaN and filled from those of the other method.
    nothing = pd.Series(np.nan, index=metrics.index)
    of_tokens = metrics.get("importance_squared", nothing) - metrics.get("importance_mean", nothing) ** 2
    of_responses = 1 / metrics.get("effective_sample_size", nothing) - 1
    limit = metrics.get("clamped", nothing).fillna(metrics.get("largest_weight", nothing))
    found = metrics.assign(variance=of_tokens.fillna(of_responses), limit=limit)
    if found[["variance", "limit"]].isna().all(axis=None):
        raise InputError("no run in the metrics has importance weights")
    figure, axes = panels(1, 2, same="none")
    for ax, column, name in zip(
        axes[0], ("variance", "limit"), ("variance of importance weights", "share at the limit"), strict=True
    ):
        ends = _curves(ax, found[found[column].notna()], column)
        ax.set(title=name, xlabel="gradient updates", ylim=(0, None))
        labels(ax, ends)
    return figure


def weight_distribution(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot shares of DMPO's weights w_real by size, stacked, above the effective sample size, a column per variant.

    The bins are those that training logged. Raises InputError if it logged none.
    """
    if metrics.empty:
        raise InputError("there are no rows to draw in the metrics")
    bins = sorted((column for column in metrics if column.startswith(BIN)), key=_edge)
    if not bins:
        raise InputError("no weights in the metrics: made by older code; delete the adapters and run snakemake again")
    runs = list(metrics.dropna(subset=bins).groupby(["task", "method", "variant"], sort=False))
    figure, axes = panels(2, len(runs))
    colours = plt.get_cmap("RdBu_r")(np.linspace(0.05, 0.95, len(bins)))
    for (above, below), ((task, method, variant), rows) in zip(axes.T, runs, strict=True):
        # Means over seeds: a stacked area has no room for bands. The effective sample size below has them.
        shares = _smooth(rows.groupby("step")[bins].mean())
        above.stackplot(shares.index, shares.to_numpy().T, colors=colours, linewidth=0)
        above.set(title=heading(task_name(task), method_name(method, variant)), ylim=(0, 1))
        ess = _smooth(rows.pivot(index="step", columns="seed", values="effective_sample_size"))
        line_of(below, ess.index.to_numpy(), means(ess), method, marker="")
        below.set(xlabel="gradient updates", ylim=(0, 1.02))
    axes[0, 0].set_ylabel("share of the responses")
    axes[1, 0].set_ylabel("effective sample size / G")

    # One legend for all columns, whose bins are the same.
    names = [_bin_name(low, high) for low, high in itertools.pairwise([*map(_edge, bins), np.inf])]
    handles = [Patch(color=colour, label=name) for colour, name in zip(colours, names, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, title="weight")
    return figure


def _edge(column: str) -> float:
    """Return the lower edge of a bin."""
    return float(column.removeprefix(BIN))


def _bin_name(low: float, high: float) -> str:
    """Format the range of a bin: `-1`, `-0.25` -> `-1 to -0.25`."""
    if np.isinf(low):
        return f"below {high:g}"
    return f"from {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"


def _smooth(table: pd.DataFrame) -> pd.DataFrame:
    """Average each column over the last eighth of the updates."""
    return table.rolling(max(1, len(table) // 8), min_periods=1).mean()


def _by_task(metrics: pd.DataFrame, column: str, ylabel: str, xlabel: str, along: str = "step") -> Figure:
    # SFT samples nothing, so the NFE of its updates is 0.
    metrics = metrics[metrics["nfe"] > 0] if "nfe" in metrics else metrics
    metrics = metrics.dropna(subset=column) if column in metrics else metrics.iloc[:0]
    if metrics.empty:
        raise InputError(f"no training run has rollouts with a {column} (SFT has no rollouts)")
    tasks = list(metrics["task"].unique())
    figure, axes = panels(1, len(tasks))
    ends = [
        _curves(ax, metrics[metrics["task"] == task], column, along) for ax, task in zip(axes[0], tasks, strict=True)
    ]

    # A band may reach beyond any possible reward, so the axis ends a little above the highest mean.
    highest = max(np.nanmax(line.get_ydata()) for ax in axes[0] for line in ax.lines)
    for ax, task, some in zip(axes[0], tasks, ends, strict=True):
        top = min(ax.get_ylim()[1], 1.15 * highest) if highest > 0 else ax.get_ylim()[1]
        ax.set(title=task_name(task), xlabel=xlabel, ylim=(0, top))
        labels(ax, some)
    axes[0, 0].set_ylabel(ylabel)
    return figure


def _curves(ax: Axes, metrics: pd.DataFrame, column: str, along: str = "step") -> list[End]:
    """Draw a line per method and variant: the mean over seeds of smoothed runs, at the mean of `along` at each step.

    Return the points to label, all at the right end of the longest line, also for lines that end earlier.
    """
    ends: list[End] = []
    styles: dict[str, int] = {}
    for (method, variant), runs in metrics.groupby(["method", "variant"], sort=False):
        values = runs.pivot(index="step", columns="seed", values=column)
        smooth = _smooth(values)
        y = means(smooth)
        x = runs.groupby("step")[along].mean().to_numpy() if along != "step" else smooth.index.to_numpy()
        style = styles[method] = styles.get(method, -1) + 1
        line_of(ax, x, y, method, marker="", style=style)
        # A column may end in missing values: the label belongs to the last finite one.
        shown = np.flatnonzero(np.isfinite(y[:, 0]))
        if len(shown):
            ends.append((x[shown[-1]], y[shown[-1], 0], method, variant))
    last = max((end[0] for end in ends), default=0)
    return [(last, *end[1:]) for end in ends]
