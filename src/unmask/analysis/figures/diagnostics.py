"""Figures of importance ratios and weights during training."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from unmask.analysis.figures.style import curves, heading, labels, line_of, means, panels, plt, smooth
from unmask.analysis.scores import POLICY
from unmask.common.catalogue import task_name
from unmask.common.errors import InputError
from unmask.methods import method_name

BIN = "weight_from_"  # prefix of metrics columns with the share of weights in a bin; its lower edge follows


def importance_ratios(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the variance of the importance weights (mean about 1), and the clamped or the largest share, in two panels.

    DiFFPO: weights of tokens, and the share of them at the clamp C. DMPO: weights of responses, whose variance is
    1 / ESS − 1, and the share of a group's weight that its largest response has. Raises InputError if no run has them.
    """
    found = metrics.assign(variance=_variance(metrics), limit=_share_at_limit(metrics))
    if found[["variance", "limit"]].isna().all(axis=None):
        raise InputError("no run in the metrics has importance weights")

    figure, axes = panels(1, 2, same="none")
    left, right = axes[0]
    _panel(left, found, "variance", "variance of importance weights")
    _panel(right, found, "limit", "clamped share (DMPO: largest share)")
    return figure


def _panel(ax: Axes, metrics: pd.DataFrame, column: str, title: str) -> None:
    """Draw the curves of a column, of the runs that have it."""
    logged = metrics.dropna(subset=column)
    ends = curves(ax, logged, column)
    ax.set(title=title, xlabel="gradient updates", ylim=(0, None))
    labels(ax, ends)


def _variance(metrics: pd.DataFrame) -> pd.Series:
    """Return the variance of the weights, of tokens (DiFFPO) or else of responses (DMPO)."""
    mean = _logged(metrics, "importance_mean")
    mean_of_squares = _logged(metrics, "importance_squared")
    of_tokens = mean_of_squares - mean**2

    effective_size = _logged(metrics, "effective_sample_size")
    of_responses = 1 / effective_size - 1
    return of_tokens.fillna(of_responses)


def _share_at_limit(metrics: pd.DataFrame) -> pd.Series:
    """Return the share of weights at the clamp (DiFFPO), or else the share of the largest weight (DMPO)."""
    clamped = _logged(metrics, "clamped")
    largest = _logged(metrics, "largest_weight")
    return clamped.fillna(largest)


def _logged(metrics: pd.DataFrame, column: str) -> pd.Series:
    """Return a column; NaN where no run has logged it, because a run logs only its method's columns."""
    if column in metrics:
        return metrics[column]
    return pd.Series(np.nan, index=metrics.index)


def weight_distribution(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot shares of DMPO's weights w_real by size, stacked, above the effective sample size, a column per variant.

    The bins are those that training logged. Raises InputError if it logged none.
    """
    if metrics.empty:
        raise InputError("there are no rows to draw in the metrics")
    bins = [column for column in metrics if column.startswith(BIN)]
    bins.sort(key=_edge)
    if not bins:
        raise InputError("no weights in the metrics: made by older code; delete the adapters and run snakemake again")

    logged = metrics.dropna(subset=bins)
    policies = list(logged.groupby(POLICY, sort=False))
    figure, axes = panels(2, len(policies))
    shades = np.linspace(0.05, 0.95, len(bins))
    colours = plt.get_cmap("RdBu_r")(shades)
    for (above, below), (policy, rows) in zip(axes.T, policies, strict=True):
        task, method, variant = policy
        title = heading(task_name(task), method_name(method, variant))
        # Means over seeds: a stacked area has no room for bands. The effective sample size below has them.
        shares = smooth(rows.groupby("step")[bins].mean())
        above.stackplot(shares.index, shares.to_numpy().T, colors=colours, linewidth=0)
        above.set(title=title, ylim=(0, 1))

        by_seed = rows.pivot(index="step", columns="seed", values="effective_sample_size")
        effective_size = smooth(by_seed)
        steps = effective_size.index.to_numpy()
        line_of(below, steps, means(effective_size), method, marker="")
        below.set(xlabel="gradient updates", ylim=(0, 1.02))
    axes[0, 0].set_ylabel("share of the responses")
    axes[1, 0].set_ylabel("effective sample size / G")

    # One legend for all columns, whose bins are the same.
    edges = [_edge(column) for column in bins]
    ranges = itertools.pairwise([*edges, np.inf])
    handles = []
    for colour, (low, high) in zip(colours, ranges, strict=True):
        handles.append(Patch(color=colour, label=_bin_name(low, high)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        title="weight",
    )
    return figure


def _edge(column: str) -> float:
    """Return the lower edge of a bin."""
    return float(column.removeprefix(BIN))


def _bin_name(low: float, high: float) -> str:
    """Format the range of a bin: `-1`, `-0.25` -> `-1 to -0.25`."""
    if np.isinf(low):
        return f"below {high:g}"
    if np.isinf(high):
        return f"from {low:g}"
    return f"{low:g} to {high:g}"
