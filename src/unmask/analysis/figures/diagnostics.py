"""Figures of importance ratios and weights during training."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from unmask.analysis.figures.style import curves, heading, labels, line_of, means, panels, plt, smooth
from unmask.common.catalogue import method_name, task_name
from unmask.common.errors import InputError

BIN = "weight_from_"  # prefix of metrics columns with the share of weights in a bin; its lower edge follows


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
        ends = curves(ax, found[found[column].notna()], column)
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
        shares = smooth(rows.groupby("step")[bins].mean())
        above.stackplot(shares.index, shares.to_numpy().T, colors=colours, linewidth=0)
        above.set(title=heading(task_name(task), method_name(method, variant)), ylim=(0, 1))
        ess = smooth(rows.pivot(index="step", columns="seed", values="effective_sample_size"))
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
