"""Shared parts of all figures: fonts and grid, panels, lines with bands, and labels at the ends of lines."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from unmask.analysis.frames import by_policy
from unmask.analysis.scores import interval
from unmask.common.atomic import atomic_write
from unmask.common.catalogue import without_common
from unmask.common.errors import InputError
from unmask.methods import method_colour, method_name

LONG = 30  # characters; longer labels would cover the next panel
STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1)))

plt.rcParams.update(
    {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e8e8e8",
        "grid.linewidth": 0.8,
        "axes.axisbelow": True,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "lines.linewidth": 1.8,
        "figure.dpi": 160,
        "savefig.bbox": "tight",
        "pdf.fonttype": 42,
    }
)


class End(NamedTuple):
    """End of a line, where its label goes."""

    x: float
    y: float
    method: str
    variant: str


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically, as PDF or PNG by the suffix of its path."""
    # Without a date, a figure that is drawn again has the same bytes.
    facts = {"CreationDate": None} if path.suffix == ".pdf" else {}
    # Labels right of the last panel are not in its layout: the tight bounding box has to include them.
    shown = figure.get_default_bbox_extra_artists()
    for ax in figure.axes:
        shown += ax.texts

    # Drawn in memory, because a full disk leaves matplotlib's PDF writer in a broken state.
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:], metadata=facts, bbox_extra_artists=shown)
    with atomic_write(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def panels(rows: int, columns: int, same: Literal["row", "none"] = "row") -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [rows, columns]; with `same="row"`, the panels of a row share their y axis.

    Raises InputError if there is nothing to draw.
    """
    if rows == 0 or columns == 0:
        raise InputError("there are no rows to draw in the scores, metrics or samples")
    size = (3.9 * columns + 0.6, 2.9 * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", sharey=same)


def means(table: pd.DataFrame) -> np.ndarray:
    """Return mean, low and high [rows, 3] over the columns of a table, its seeds; NaN for rows without a value."""
    rows = []
    for row in table.to_numpy(dtype=float):
        known = row[~np.isnan(row)]
        rows.append(interval(known) if len(known) else (np.nan, np.nan, np.nan))
    return np.array(rows)


def heading(*parts: str) -> str:
    """Join the parts of a panel's title, on several lines where one would reach into the next panel."""
    line = ", ".join(parts)
    return line if len(line) <= 40 else ",\n".join(parts)


def line_of(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, marker: str = "o", style: int = 0) -> None:
    """Draw a line of means y[:, 0] with a band from y[:, 1] to y[:, 2]; variants of a method differ in `style`."""
    mean, low, high = y.T
    colour, line = method_colour(method), STYLES[style % len(STYLES)]
    ax.plot(x, mean, color=colour, marker=marker, markersize=4, linestyle=line)
    ax.fill_between(x, low, high, color=colour, alpha=0.15 / (1 + style), linewidth=0)


def bars_of(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, style: int = 0, joined: bool = True) -> None:
    """Draw the same as `line_of` with error bars for the intervals: many bands would hide each other."""
    mean = y[:, 0]
    reach = np.abs(y[:, 1:] - y[:, :1]).T
    ax.errorbar(
        x,
        mean,
        reach,
        color=method_colour(method),
        marker="o",
        markersize=4,
        linestyle=STYLES[style % len(STYLES)] if joined else "none",
        linewidth=1.2,
        elinewidth=0.9,
    )


def labels(ax: Axes, ends: Iterable[End]) -> None:
    """Label the ends of lines at the right, moved apart until no labels overlap; call it after the limits are set.

    If any label is long, only the last panel of a row has labels; lines look the same in all panels.
    """
    finite = [end for end in ends if np.isfinite((end.x, end.y)).all()]
    finite.sort(key=lambda end: end.y)
    names = _label_texts(finite)

    place = ax.get_subplotspec()
    last = place is None or place.is_last_col()
    longest = max(map(len, names), default=0)
    if not last and longest > LONG:
        return

    right = max((end.x for end in finite), default=0.0)
    heights = _spread([end.y for end in finite], *ax.get_ylim())
    offset = offset_copy(ax.transData, ax.get_figure(root=True), x=14, units="points")
    for end, name, height in zip(finite, names, heights, strict=True):
        colour = method_colour(end.method)
        text = ax.annotate(
            name,
            (end.x, end.y),
            xytext=(right, height),
            textcoords=offset,
            va="center",
            color=colour,
            fontsize=8.5,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )
        text.set_in_layout(not last)  # the last panel need not shrink for its names: the page grows


def _label_texts(ends: list[End]) -> list[str]:
    """Return the label of each line's end."""
    # Settings that all variants of the panel have tell nothing apart. A base model has none of them.
    trained = [end.variant for end in ends if end.method != "base"]
    shortened = iter(without_common(trained))
    names = []
    for end in ends:
        variant = end.variant if end.method == "base" else next(shortened)
        names.append(method_name(end.method, variant))
    return names


def _spread(values: list[float], low: float, high: float) -> list[float]:
    """Return heights between `low` and `high` for labels at sorted values, moved apart until none overlap."""
    gap = 0.08 * (high - low)
    # From the bottom up, the lowest label clear of the x axis.
    heights: list[float] = []
    for value in values:
        least = heights[-1] + gap if heights else low + gap / 2
        heights.append(max(value, least))

    # The pass upwards may have pushed the highest labels out of the panel; push back down from its top.
    most = high
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], most)
        most = heights[index] - gap
    return heights


def smooth(table: pd.DataFrame) -> pd.DataFrame:
    """Average each column over the last eighth of the updates."""
    updates = max(1, len(table) // 8)
    return table.rolling(updates, min_periods=1).mean()


def curves(ax: Axes, metrics: pd.DataFrame, column: str, along: str = "step") -> list[End]:
    """Draw a line per method and variant: the mean over seeds of smoothed runs, at the mean of `along` at each step.

    Return the points to label, all at the right end of the longest line, also for lines that end earlier.
    """
    ends: list[End] = []
    drawn: Counter[str] = Counter()
    for method, variant, runs in by_policy(metrics):
        smoothed = smooth(runs.pivot(index="step", columns="seed", values=column))
        x, y = smoothed.index.to_numpy(), means(smoothed)
        if along != "step":
            x = runs.groupby("step")[along].mean().to_numpy()
        # Variants of a method share its colour and differ by line style.
        line_of(ax, x, y, method, marker="", style=drawn[method])
        drawn[method] += 1

        # A column may end in missing values: the label belongs to the last finite one.
        finite = np.flatnonzero(np.isfinite(y[:, 0]))
        if len(finite):
            last = finite[-1]
            ends.append(End(x[last], y[last, 0], method, variant))

    right = max((end.x for end in ends), default=0.0)
    return [end._replace(x=right) for end in ends]
