"""What is drawn into the panels of all figures: lines with intervals, and single seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.transforms import offset_copy

from unmask.analysis.figures.looks import DASHES, Line, Policy
from unmask.analysis.frames import by_policy
from unmask.analysis.scores import interval
from unmask.methods import Look

MARKS = 7  # markers on a line of many points
ASIDE = 5.5  # points from a mean with its bar to the seeds


def means(table: pd.DataFrame) -> np.ndarray:
    """Return mean, low and high [rows, 3] over the columns of a table, its seeds; NaN for rows without a value."""
    rows = []
    for row in table.to_numpy(dtype=float):
        known = row[~np.isnan(row)]
        if len(known):
            rows.append(interval(known))
        else:
            rows.append((np.nan, np.nan, np.nan))
    return np.array(rows)


def smooth(table: pd.DataFrame) -> pd.DataFrame:
    """Average each column over the last eighth of the updates."""
    updates = max(1, len(table) // 8)
    return table.rolling(updates, min_periods=1).mean()


def line_of(ax: Axes, x: np.ndarray, y: np.ndarray, look: Look, number: int = 0) -> None:
    """Draw a line of means y[:, 0] with a band from y[:, 1] to y[:, 2], and a few markers.

    `number` counts the lines of a panel, so that their markers are in different places.
    """
    mean, low, high = y.T
    every = max(1, len(x) // MARKS)
    first = (2 * number * every // MARKS) % every
    _joined(ax, x, mean, look, markevery=(first, every))
    ax.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)


def _joined(
    ax: Axes,
    x: np.ndarray,
    mean: np.ndarray,
    look: Look,
    joined: bool = True,
    markevery: tuple[int, int] = (0, 1),
) -> None:
    """Draw means with the colour, marker and dash of a look."""
    ax.plot(
        x,
        mean,
        color=look.colour,
        marker=look.marker,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.5,
        markevery=markevery,
        linestyle=DASHES[look.dash] if joined else "none",
        linewidth=1.6,
    )


def points_of(ax: Axes, x: np.ndarray, y: np.ndarray, look: Look, joined: bool = True) -> None:
    """Draw means y[:, 0] at few places, with bars from y[:, 1] to y[:, 2]."""
    mean, low, high = y.T
    reach = np.abs([low - mean, high - mean])
    ax.errorbar(x, mean, reach, fmt="none", ecolor=look.colour, elinewidth=1)
    _joined(ax, x, mean, look, joined)


def seeds_of(
    ax: Axes,
    x: np.ndarray,
    values: pd.DataFrame | np.ndarray,
    look: Look,
    aside: float = 0,
) -> None:
    """Draw the values [places, seeds] of single seeds as small points at x [places], moved right by `aside` points."""
    table = np.asarray(values, dtype=float)
    places = np.broadcast_to(np.asarray(x, dtype=float)[:, None], table.shape)
    known = np.isfinite(table)
    points = ax.scatter(
        places[known],
        table[known],
        s=9,
        color=look.colour,
        alpha=0.55,
        linewidths=0,
        zorder=1.8,
    )
    # Moved afterwards: an offset in points would be converted to data at once, while the limits are not known.
    moved = offset_copy(ax.transData, ax.get_figure(root=True), x=aside, units="points")
    points.set_offset_transform(moved)


def side_by_side(places: Iterable[float], lines: int) -> np.ndarray:
    """Return shifts along the x axis, one for each line, that keep the points of several lines apart."""
    steps = np.diff(np.unique(np.array(list(places), dtype=float)))
    gap = steps.min() if len(steps) else 1.0
    shift = min(0.08, 0.5 / lines) * gap
    return shift * (np.arange(lines) - (lines - 1) / 2)


def beyond(ax: Axes, place: int) -> float:
    """Return where the seeds of a line are drawn right of all lines of a panel, for the line's number in it."""
    axis = ax.xaxis.get_transform()
    left, right = axis.transform(np.array([ax.dataLim.x0, ax.dataLim.x1]))
    width = right - left or 1.0  # of lines of one point: any
    end = right + (0.025 + 0.022 * place) * width
    return float(axis.inverted().transform(np.array([end]))[0])


def no_ticks_beyond(ax: Axes) -> None:
    """Remove the ticks right of all lines, where the seeds are at no place of the axis."""
    if ax.get_xscale() == "linear" and ax.lines:
        right = max(np.max(line.get_xdata()) for line in ax.lines)
        limits = ax.get_xlim()
        ax.set_xticks([tick for tick in ax.get_xticks() if limits[0] <= tick <= right])
        ax.set_xlim(limits)


def highest(ax: Axes) -> float:
    """Return the highest mean or single seed that a panel shows; -inf if there is none."""
    shown = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
    for points in ax.collections:
        if isinstance(points, PathCollection):
            shown.append(np.asarray(points.get_offsets(), dtype=float)[:, 1])
    known = np.concatenate([np.ravel(values) for values in shown] or [np.empty(0)])
    known = known[np.isfinite(known)]
    return float(known.max()) if len(known) else -np.inf


def curves(
    ax: Axes,
    metrics: pd.DataFrame,
    column: str,
    lines: Mapping[Policy, Line],
    along: str = "step",
) -> None:
    """Draw a line per method and variant: the mean over seeds of smoothed runs, at the mean of `along` at each step.

    The last value of each seed is a point right of the lines.
    """
    last = []
    for number, (method, variant, runs) in enumerate(by_policy(metrics)):
        by_seed = runs.pivot(index="step", columns="seed", values=column)
        smoothed = smooth(by_seed)
        x = smoothed.index.to_numpy()
        if along != "step":
            x = runs.groupby("step")[along].mean().to_numpy()
        look = lines[method, variant].look
        line_of(ax, x, means(smoothed), look, number)
        last.append((look, smoothed.ffill().iloc[[-1]]))

    # After all lines, because the points are right of the last of them.
    places = [beyond(ax, number) for number in range(len(last))]
    for place, (look, values) in zip(places, last, strict=True):
        if values.shape[1] > 1:
            seeds_of(ax, np.array([place]), values, look)
    no_ticks_beyond(ax)
