"""What all figures share: fonts and grid, panels, lines with bands, and labels at the ends of lines."""

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

from unmask.files import InputError, writing
from unmask.names import method_colour, method_name, without_common
from unmask.scores import interval

LONG = 30  # letters that take too much of the next panel's place
STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1)))

plt.rcParams.update({
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "lines.linewidth": 1.8, "figure.dpi": 160, "savefig.bbox": "tight",
    "pdf.fonttype": 42,
})  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PDF or PNG, by the end of its name, whole or not at all."""
    facts = {"CreationDate": None} if path.suffix == ".pdf" else {}  # the same bytes at any time
    drawn = io.BytesIO()  # a full disk leaves matplotlib's own writer of PDF in disorder
    names = [text for ax in figure.axes for text in ax.texts]  # the page grows for them
    shown = [*figure.get_default_bbox_extra_artists(), *names]
    figure.savefig(drawn, format=path.suffix[1:], metadata=facts, bbox_extra_artists=shown)
    with writing(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def panels(rows: int, columns: int, same: Literal["row", "none"] = "row") -> tuple[Figure, np.ndarray]:
    """A figure with its axes [rows, columns]; `same` says whether y is shared along a row.

    Raises InputError where there is nothing to draw.
    """
    if rows == 0 or columns == 0:
        raise InputError("there are no rows to draw in the scores, metrics or samples")
    size = (3.9 * columns + 0.6, 2.9 * rows)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", sharey=same)


def means(table: pd.DataFrame) -> np.ndarray:
    """Mean and ends of the interval [rows, 3] over the columns of a table, seeds; NaN for a row without a value."""
    values = (row[~np.isnan(row)] for row in table.to_numpy(dtype=float))
    return np.array([interval(row) if len(row) else (np.nan,) * 3 for row in values])


def heading(*parts: str) -> str:
    """A panel's title, on two lines where one would reach into the next panel."""
    line = ", ".join(parts)
    return line if len(line) <= 40 else ",\n".join(parts)


def line_of(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, marker: str = "o", style: int = 0) -> None:
    """A line of means y[:, 0] with its band from y[:, 1] to y[:, 2]; variants of a method differ in `style`."""
    colour = method_colour(method)
    ax.plot(x, y[:, 0], color=colour, marker=marker, markersize=4, linestyle=STYLES[style % len(STYLES)])
    ax.fill_between(x, y[:, 1], y[:, 2], color=colour, alpha=0.15 / (1 + style), linewidth=0)


def bars_of(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, style: int = 0, joined: bool = True) -> None:
    """As `line_of`, with bars for the intervals: where there are many lines, bands hide each other."""
    colour, reach = method_colour(method), np.abs(y[:, 1:] - y[:, :1]).T
    line = STYLES[style % len(STYLES)] if joined else "none"
    ax.errorbar(x, y[:, 0], reach, color=colour, marker="o", markersize=4, linestyle=line,
                linewidth=1.2, elinewidth=0.9)  # fmt: skip


def labels(ax: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Names right of all ends of the lines, moved apart until they do not overlap; call it when limits are set.

    Long ones stand beside the last panel of a row only; lines look the same in all.
    """
    ends = sorted((end for end in ends if np.isfinite(end[:2]).all()), key=lambda end: end[1])
    low, high = ax.get_ylim()
    gap = 0.08 * (high - low)
    heights: list[float] = []
    for _, y, _, _ in ends:
        heights.append(max(y, heights[-1] + gap if heights else low + gap / 2))  # nor on the axis
    for i in reversed(range(len(heights))):  # not above the panel
        heights[i] = min(heights[i], heights[i + 1] - gap if i + 1 < len(heights) else high)
    trained = iter(without_common([variant for _, _, method, variant in ends if method != "base"]))
    names = [method_name(method, variant if method == "base" else next(trained)) for _, _, method, variant in ends]
    place = ax.get_subplotspec()
    last = place is None or place.is_last_col()
    if not last and max(map(len, names), default=0) > LONG:
        return
    right = max((x for x, *_ in ends), default=0.0)
    beside = offset_copy(ax.transData, ax.get_figure(root=True), x=14, units="points")
    for (x, y, method, _), name, height in zip(ends, names, heights, strict=True):
        colour = method_colour(method)
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
        text = ax.annotate(
            name, (x, y), xytext=(right, height), textcoords=beside, va="center", color=colour,
            fontsize=8.5, annotation_clip=False, arrowprops=leader,
        )  # fmt: skip
        text.set_in_layout(not last)  # the last panel need not shrink for its names: the page grows
