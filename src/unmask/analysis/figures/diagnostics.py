"""Figures of importance ratios and weights during training."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from unmask.analysis.figures.counts import of_metrics
from unmask.analysis.figures.drawing import (
    ASIDE,
    beyond,
    curves,
    line_of,
    means,
    no_ticks_beyond,
    points_of,
    seeds_of,
    side_by_side,
    smooth,
)
from unmask.analysis.figures.looks import lines_of
from unmask.analysis.figures.style import finish, handles_of, heading, panels, plt
from unmask.analysis.frames import by_policy, distinct, select
from unmask.analysis.scores import POLICY
from unmask.common.catalogue import task_name
from unmask.common.errors import InputError
from unmask.methods import Look

# Rows of panels of `importance_ratios`, column -> title. Weights of tokens and of responses are different quantities.
WEIGHTS = (
    {"token_variance": "variance of the weights of tokens", "clamped": "share of tokens at the clamp C"},
    {
        "response_variance": "variance of the weights of responses",
        "largest_weight": "largest response's share of a group",
    },
)
EDGE = "#555555"  # between two areas, whose colours alone would be hard to tell apart
BIN = "weight_from_"  # prefix of metrics columns with the share of weights in a bin; its lower edge follows


def importance_ratios(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the variance of importance weights (mean about 1), and how uneven or clamped they are, by gradient update.

    A row of panels has the weights of tokens (DiFFPO) and the share of them at the clamp C. Another has the weights of
    responses (DMPO), whose variance is 1 / ESS − 1, and the share of a group's weight that its largest response has.
    Raises InputError if no run has weights.
    """
    token_variance = _logged(metrics, "importance_squared") - _logged(metrics, "importance_mean") ** 2
    response_variance = 1 / _logged(metrics, "effective_sample_size") - 1
    # Other methods log columns of these names for other weights.
    found = metrics.assign(
        token_variance=token_variance,
        clamped=_logged(metrics, "clamped").where(token_variance.notna()),
        response_variance=response_variance,
        largest_weight=_logged(metrics, "largest_weight").where(response_variance.notna()),
    )
    rows = [row for row in WEIGHTS if found[list(row)].notna().any(axis=None)]
    if not rows:
        raise InputError("no run in the metrics has importance weights")

    figure, axes = panels(len(rows), 2, same="none")
    drawn = found.dropna(subset=[column for row in rows for column in row], how="all")
    lines = lines_of(drawn, metrics)
    for row, row_axes in zip(rows, axes, strict=True):
        for ax, (column, title) in zip(row_axes, row.items(), strict=True):
            curves(ax, found.dropna(subset=column), column, lines)
            ax.set(title=title, xlabel="gradient updates", ylim=(0, None))
    return finish(figure, handles_of(lines.values()), of_metrics(drawn))


def clipped_by_inner_update(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the share of ratios, weights or targets at their limit against the update of a buffer, a panel per task.

    It is `clipped` of methods with a clipped ratio, else `clamped`; GDSD's clamp and a clip leave no gradient there.
    Raises InputError if no run has logged either.
    """
    found = metrics.assign(limited=_logged(metrics, "clipped").fillna(_logged(metrics, "clamped")))
    found = found.dropna(subset="limited")
    if found.empty:
        raise InputError("no run in the metrics has a clip or a clamp")
    lines = lines_of(found, metrics)
    tasks = distinct(found, "task")
    figure, axes = panels(1, len(tasks))
    for ax, task in zip(axes[0], tasks, strict=True):
        panel = select(found, task=task)
        policies = list(by_policy(panel))
        shifts = side_by_side(panel["inner"], len(policies))
        for (method, variant, rows), shift in zip(policies, shifts, strict=True):
            by_seed = 100 * rows.pivot_table(index="inner", columns="seed", values="limited")
            x = by_seed.index.to_numpy() + shift
            look = lines[method, variant].look
            points_of(ax, x, means(by_seed), look)
            if by_seed.shape[1] > 1:
                seeds_of(ax, x, by_seed, look, ASIDE)
        ax.set(title=task_name(task), xlabel="update of a buffer", ylim=(-2, 102))
        ax.set_xticks(sorted(panel["inner"].unique()))
    axes[0, 0].set_ylabel("at the limit of clip or clamp (%)")
    return finish(figure, handles_of(lines.values()), of_metrics(found))


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
    names = lines_of(logged, metrics)
    policies = list(logged.groupby(POLICY, sort=False))
    figure, axes = panels(2, len(policies))
    shades = np.linspace(0.05, 0.95, len(bins))
    colours = plt.get_cmap("RdBu_r")(shades)
    for (above, below), (policy, rows) in zip(axes.T, policies, strict=True):
        task, method, variant = policy
        title = heading(task_name(task), names[method, variant].name)
        # Means over seeds: a stacked area has no room for bands. The effective sample size below has them.
        shares = smooth(rows.groupby("step")[bins].mean())
        above.stackplot(shares.index, shares.to_numpy().T, colors=colours, edgecolor=EDGE, linewidth=0.5)
        above.set(title=title, ylim=(0, 1))
        _effective_size(below, rows)
    axes[0, 0].set_ylabel("share of the responses")
    axes[1, 0].set_ylabel("effective sample size / G")

    # One legend for all columns, whose bins are the same.
    edges = [_edge(column) for column in bins]
    ranges = itertools.pairwise([*edges, np.inf])
    handles: list[Artist] = []
    for colour, (low, high) in zip(colours, ranges, strict=True):
        handles.append(Patch(facecolor=colour, edgecolor=EDGE, linewidth=0.5, label=f"weight {_bin_name(low, high)}"))
    return finish(figure, handles, of_metrics(logged))


def _effective_size(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw the effective sample size of one policy, with the last value of each seed at the right."""
    by_seed = rows.pivot(index="step", columns="seed", values="effective_sample_size")
    effective_size = smooth(by_seed)
    # Black: what is drawn is in the title, and no colour of a method is among those of the weights above.
    look = Look("", "#000000", "o", "solid")
    line_of(ax, effective_size.index.to_numpy(), means(effective_size), look)
    if effective_size.shape[1] > 1:
        seeds_of(ax, np.array([beyond(ax, 0)]), effective_size.ffill().iloc[[-1]], look)
    no_ticks_beyond(ax)
    ax.set(xlabel="gradient updates", ylim=(0, 1.02))


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
