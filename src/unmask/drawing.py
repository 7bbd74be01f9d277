"""What all figures share: fonts and grid, panels, lines with bands, and labels at the ends of lines."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.files import writing
from unmask.names import method_colour, method_name, without_common

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
    figure.savefig(drawn, format=path.suffix[1:], metadata=facts)
    with writing(path) as temporary:
        temporary.write_bytes(drawn.getvalue())


def panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """A figure with its axes [rows, columns], y shared along a row."""
    return plt.subplots(
        rows, columns, figsize=(3.9 * columns + 0.6, 2.9 * rows), squeeze=False, layout="constrained", sharey="row"
    )


def heading(*parts: str) -> str:
    """A panel's title, on two lines where one would reach into the next panel."""
    line = ", ".join(parts)
    return line if len(line) <= 40 else ",\n".join(parts)


def line_of(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, marker: str = "o", style: int = 0) -> None:
    """A line of means y[:, 0] with its band from y[:, 1] to y[:, 2]; variants of a method differ in `style`."""
    colour = method_colour(method)
    ax.plot(x, y[:, 0], color=colour, marker=marker, markersize=4, linestyle=STYLES[style % len(STYLES)])
    ax.fill_between(x, y[:, 1], y[:, 2], color=colour, alpha=0.15 / (1 + style), linewidth=0)


def bars_of(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, style: int = 0) -> None:
    """As `line_of`, with bars for the intervals: where there are many lines, bands hide each other."""
    colour, reach = method_colour(method), np.abs(y[:, 1:] - y[:, :1]).T
    ax.errorbar(x, y[:, 0], reach, color=colour, marker="o", markersize=4, linestyle=STYLES[style % len(STYLES)],
                linewidth=1.2, elinewidth=0.9)  # fmt: skip


def labels(ax: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Names at the right ends of the lines, moved apart until they do not overlap; call it when limits are set."""
    ends = sorted(ends, key=lambda end: end[1])
    low, high = ax.get_ylim()
    gap = 0.08 * (high - low)
    heights: list[float] = []
    for _, y, _, _ in ends:
        heights.append(max(y, heights[-1] + gap) if heights else y)
    for i in reversed(range(len(heights))):  # not above the panel
        heights[i] = min(heights[i], heights[i + 1] - gap if i + 1 < len(heights) else high)
    variants = without_common([variant for *_, variant in ends])
    for (x, _, method, _), variant, height in zip(ends, variants, heights, strict=True):
        name = ax.annotate(
            method_name(method, variant), (x, height), xytext=(6, 0), textcoords="offset points",
            va="center", color=method_colour(method), fontsize=8.5, annotation_clip=False,
        )  # fmt: skip
        name.set_in_layout(not ax.get_subplotspec().is_last_col())  # the last panel need not shrink for its names
