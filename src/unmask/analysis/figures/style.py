"""Shared parts of all figures: fonts and grid, panels, the legend, and what is written below it."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unmask.analysis.figures.looks import DASHES, Line
from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError

LONG_HEADING = 40
COUNTS = "counts"  # names the text below a figure

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


def save(figure: Figure, path: Path) -> None:
    """Write a figure atomically, as PDF or PNG by the suffix of its path, with its counts as the description."""
    counts = [text.get_text() for text in figure.texts if text.get_gid() == COUNTS]
    description = " ".join(" ".join(counts).split())
    # Without a date, a figure that is drawn again has the same bytes.
    metadata: dict[str, str | None] = {"Description": description}
    if path.suffix == ".pdf":
        metadata = {"CreationDate": None, "Subject": description}

    # Drawn in memory, because a full disk leaves matplotlib's PDF writer in a broken state.
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix.removeprefix("."), metadata=metadata)
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


def heading(*parts: str) -> str:
    """Join the parts of a panel's title, on several lines where one would reach into the next panel."""
    line = ", ".join(parts)
    if len(line) > LONG_HEADING:
        return ",\n".join(parts)
    return line


def finish(figure: Figure, handles: list[Artist], counts: str) -> Figure:
    """Write legend and counts below the panels, which keep their size: the page grows. Returns the figure."""
    height = figure.bbox.height
    legend_height = 0.0
    if handles:
        legend_height = _legend(figure, handles) / height
    characters = int(17 * figure.get_figwidth())
    figure.text(
        0.006,
        -legend_height - 6 / height,
        textwrap.fill(counts, characters),
        fontsize=8,
        color="#444444",
        va="top",
        gid=COUNTS,
    )
    return figure


def _legend(figure: Figure, handles: list[Artist]) -> float:
    """Draw the legend in as few rows as fit; return its height in pixels."""
    for rows in range(1, len(handles) + 1):
        columns = math.ceil(len(handles) / rows)
        legend = figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0, 0),
            ncols=columns,
            frameon=False,
            handlelength=3.4,
            columnspacing=1.4,
            borderaxespad=0.2,
        )
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    return float(box.height)


def handles_of(lines: Iterable[Line]) -> list[Artist]:
    """Return an entry of the legend for each line: its colour, marker and dash, and its name in black."""
    handles: list[Artist] = []
    for name, look in lines:
        handles.append(
            Line2D(
                [],
                [],
                label=name,
                color=look.colour,
                marker=look.marker,
                markersize=6,
                linestyle=DASHES[look.dash],
                linewidth=1.6,
            )
        )
    return handles
