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
from matplotlib.text import Annotation
from matplotlib.transforms import offset_copy

from unmask.analysis.frames import by_policy
from unmask.analysis.scores import interval
from unmask.common.atomic import atomic_write
from unmask.common.catalogue import without_common
from unmask.common.errors import InputError
from unmask.methods import method_colour, method_name

LONG_LABEL = 30  # characters; longer labels would cover the next panel
LONG_HEADING = 40
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


def end_of(x: np.ndarray, y: np.ndarray, method: str, variant: str) -> End:
    """Return the end of a line of means y[:, 0]."""
    return End(x[-1], y[-1, 0], method, variant)


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically, as PDF or PNG by the suffix of its path."""
    # Without a date, a figure that is drawn again has the same bytes.
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
    # Labels right of the last panel are not in its layout: the tight bounding box has to include them.
    artists = figure.get_default_bbox_extra_artists()
    for ax in figure.axes:
        artists += ax.texts

    # Drawn in memory, because a full disk leaves matplotlib's PDF writer in a broken state.
    drawn = io.BytesIO()
    figure.savefig(
        drawn,
        format=path.suffix.removeprefix("."),
        metadata=metadata,
        bbox_extra_artists=artists,
    )
    with atomic_write(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def panels(rows: int, columns: int, same: Literal["row", "none"] = "row") -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [rows, columns]; with `same="row"`, the panels of a row share their y axis.

    Raises InputError if there is nothing to draw.
    """
    if rows == 0 or columns == 0:
        raise InputError("there are no rows to draw in the scores, metrics or samples")
    width = 3.9 * columns + 0.6
    height = 2.9 * rows
    return plt.subplots(
        rows,
        columns,
        figsize=(width, height),
        squeeze=False,
        layout="constrained",
        sharey=same,
    )


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


def heading(*parts: str) -> str:
    """Join the parts of a panel's title, on several lines where one would reach into the next panel."""
    line = ", ".join(parts)
    if len(line) > LONG_HEADING:
        return ",\n".join(parts)
    return line


def line_of(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    method: str,
    marker: str = "o",
    style: int = 0,
) -> None:
    """Draw a line of means y[:, 0] with a band from y[:, 1] to y[:, 2]; variants of a method differ in `style`."""
    mean, low, high = y.T
    colour = method_colour(method)
    ax.plot(
        x,
        mean,
        color=colour,
        marker=marker,
        markersize=4,
        linestyle=STYLES[style % len(STYLES)],
    )
    # Bands of several variants lie on top of each other in one colour: each is fainter than the one before.
    opacity = 0.15 / (1 + style)
    ax.fill_between(x, low, high, color=colour, alpha=opacity, linewidth=0)


def bars_of(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    method: str,
    style: int = 0,
    joined: bool = True,
) -> None:
    """Draw the same as `line_of` with error bars for the intervals: many bands would hide each other."""
    mean, low, high = y.T
    reach = np.abs([low - mean, high - mean])
    linestyle = STYLES[style % len(STYLES)] if joined else "none"
    ax.errorbar(
        x,
        mean,
        reach,
        color=method_colour(method),
        marker="o",
        markersize=4,
        linestyle=linestyle,
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
    if longest > LONG_LABEL and not last:
        return

    right = max((end.x for end in finite), default=0.0)
    bottom, top = ax.get_ylim()
    heights = _spread([end.y for end in finite], bottom, top)
    for end, name, height in zip(finite, names, heights, strict=True):
        text = _label(ax, end, name, (right, height))
        text.set_in_layout(not last)  # the last panel need not shrink for its names: the page grows


def _label(ax: Axes, end: End, name: str, place: tuple[float, float]) -> Annotation:
    """Write the label of a line a little right of `place`, joined to the line's end by a thin line."""
    colour = method_colour(end.method)
    offset = offset_copy(ax.transData, ax.get_figure(root=True), x=14, units="points")
    leader = {
        "arrowstyle": "-",
        "color": colour,
        "linewidth": 0.6,
        "shrinkA": 1,
        "shrinkB": 0,
        "relpos": (0, 0.5),
    }
    return ax.annotate(
        name,
        (end.x, end.y),
        xytext=place,
        textcoords=offset,
        va="center",
        color=colour,
        fontsize=8.5,
        annotation_clip=False,
        arrowprops=leader,
    )


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

    Return the points to label: the last finite point of each line.
    """
    ends: list[End] = []
    drawn: Counter[str] = Counter()
    for method, variant, runs in by_policy(metrics):
        by_seed = runs.pivot(index="step", columns="seed", values=column)
        smoothed = smooth(by_seed)
        y = means(smoothed)
        x = smoothed.index.to_numpy()
        if along != "step":
            x = runs.groupby("step")[along].mean().to_numpy()
        # Variants of a method share its colour and differ by line style.
        line_of(ax, x, y, method, marker="", style=drawn[method])
        drawn[method] += 1

        # A column may end in missing values: the label belongs to the last finite one.
        finite = np.isfinite(y[:, 0])
        if finite.any():
            ends.append(end_of(x[finite], y[finite], method, variant))
    return ends
