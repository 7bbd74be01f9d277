"""Shared parts of all figures: fonts and grid, panels, lines with bands, and labels at the ends of lines."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from unmask.analysis.scores import interval
from unmask.common.atomic import atomic_write
from unmask.common.catalogue import method_colour, method_name, without_common
from unmask.common.errors import InputError

LONG = 30  # characters; longer labels would cover the next panel
STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1)))

plt.rcParams.update({
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "lines.linewidth": 1.8, "figure.dpi": 160, "savefig.bbox": "tight",
    "pdf.fonttype": 42,
})  # fmt: skip
End = tuple[float, float, str, str]  # x and y of a line's end, its method and variant


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically, as PDF or PNG by the suffix of its path."""
    # Without a date, a figure that is drawn again has the same bytes.
    facts = {"CreationDate": None} if path.suffix == ".pdf" else {}
    # Drawn in memory, because a full disk leaves matplotlib's PDF writer in a broken state.
    drawn = io.BytesIO()
    # Labels right of the last panel are not in its layout: the tight bounding box has to include them.
    names = [text for ax in figure.axes for text in ax.texts]
    shown = [*figure.get_default_bbox_extra_artists(), *names]
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
    values = (row[~np.isnan(row)] for row in table.to_numpy(dtype=float))
    return np.array([interval(row) if len(row) else (np.nan,) * 3 for row in values])


def heading(*parts: str) -> str:
    """Join the parts of a panel's title, on several lines where one would reach into the next panel."""
    line = ", ".join(parts)
    return line if len(line) <= 40 else ",\n".join(parts)


def line_of(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, marker: str = "o", style: int = 0) -> None:
    """Draw a line of means y[:, 0] with a band from y[:, 1] to y[:, 2]; variants of a method differ in `style`."""
    colour = method_colour(method)
    ax.plot(x, y[:, 0], color=colour, marker=marker, markersize=4, linestyle=STYLES[style % len(STYLES)])
    ax.fill_between(x, y[:, 1], y[:, 2], color=colour, alpha=0.15 / (1 + style), linewidth=0)


def bars_of(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, style: int = 0, joined: bool = True) -> None:
    """Draw the same as `line_of` with error bars for the intervals: many bands would hide each other."""
    colour, reach = method_colour(method), np.abs(y[:, 1:] - y[:, :1]).T
    line = STYLES[style % len(STYLES)] if joined else "none"
    ax.errorbar(x, y[:, 0], reach, color=colour, marker="o", markersize=4, linestyle=line,
                linewidth=1.2, elinewidth=0.9)  # fmt: skip


def labels(ax: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Label the ends of lines at the right, moved apart until no labels overlap; call it after the limits are set.

    Each of `ends` is x, y, method and variant. If any label is long, only the last panel of a row has labels; lines
    look the same in all panels.
    """
    ends = sorted((end for end in ends if np.isfinite(end[:2]).all()), key=lambda end: end[1])
    low, high = ax.get_ylim()
    gap = 0.08 * (high - low)
    # From the bottom up, the lowest label clear of the x axis.
    heights: list[float] = []
    for _, y, _, _ in ends:
        heights.append(max(y, heights[-1] + gap if heights else low + gap / 2))
    # The pass upwards may have pushed the highest labels out of the panel; push back down from its top.
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], heights[i + 1] - gap if i + 1 < len(heights) else high)

    # Settings that all variants of the panel have tell nothing apart. A base model has none of them.
    trained = iter(without_common([variant for _, _, method, variant in ends if method != "base"]))
    names = [method_name(method, variant if method == "base" else next(trained)) for _, _, method, variant in ends]

    place = ax.get_subplotspec()
    last = place is None or place.is_last_col()
    if not last and max(map(len, names), default=0) > LONG:
        return
    right = max((x for x, *_ in ends), default=0.0)
    offset = offset_copy(ax.transData, ax.get_figure(root=True), x=14, units="points")
    for (x, y, method, _), name, height in zip(ends, names, heights, strict=True):
        colour = method_colour(method)
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
        text = ax.annotate(
            name, (x, y), xytext=(right, height), textcoords=offset, va="center", color=colour,
            fontsize=8.5, annotation_clip=False, arrowprops=leader,
        )  # fmt: skip
        text.set_in_layout(not last)  # the last panel need not shrink for its names: the page grows


def smooth(table: pd.DataFrame) -> pd.DataFrame:
    """Average each column over the last eighth of the updates."""
    return table.rolling(max(1, len(table) // 8), min_periods=1).mean()


def curves(ax: Axes, metrics: pd.DataFrame, column: str, along: str = "step") -> list[End]:
    """Draw a line per method and variant: the mean over seeds of smoothed runs, at the mean of `along` at each step.

    Return the points to label, all at the right end of the longest line, also for lines that end earlier.
    """
    ends: list[End] = []
    styles: dict[str, int] = {}
    for (method, variant), runs in metrics.groupby(["method", "variant"], sort=False):
        values = runs.pivot(index="step", columns="seed", values=column)
        smoothed = smooth(values)
        y = means(smoothed)
        x = runs.groupby("step")[along].mean().to_numpy() if along != "step" else smoothed.index.to_numpy()
        style = styles[method] = styles.get(method, -1) + 1
        line_of(ax, x, y, method, marker="", style=style)
        # A column may end in missing values: the label belongs to the last finite one.
        shown = np.flatnonzero(np.isfinite(y[:, 0]))
        if len(shown):
            ends.append((x[shown[-1]], y[shown[-1], 0], method, variant))
    last = max((end[0] for end in ends), default=0)
    return [(last, *end[1:]) for end in ends]
