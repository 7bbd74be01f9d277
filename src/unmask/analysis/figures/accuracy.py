"""Figures of strict accuracy: against generation length, and against forward passes.

Error bars are 95 % intervals over seeds, or over test problems for a base model that is evaluated once. Small points
are single seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from unmask.analysis.figures.counts import of_scores
from unmask.analysis.figures.drawing import ASIDE, points_of, seeds_of, side_by_side
from unmask.analysis.figures.looks import DASHES, Line, Policy, lines_of
from unmask.analysis.figures.style import finish, handles_of, heading, panels
from unmask.analysis.frames import by_policy, distinct, select
from unmask.analysis.scores import over_seeds
from unmask.common.catalogue import sampler_kind, sampler_name, task_name

AXIS_MARGIN = 1.1  # of a logarithmic axis, left and right
STRICT = ["strict", "strict_low", "strict_high"]
STAR = "*"
SIZES = {STAR: 14}  # of markers in points, so that a star shows around another marker in the same place
Fill = Literal["full", "none", "left", "bottom", "right", "top"]
# How the markers of each policy are filled where their shape is that of the sampler.
FILLS: tuple[Fill, ...] = ("full", "none", "left", "bottom", "right", "top")


def accuracy_by_length(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy against generation length, a row of panels per task, a column per step mode."""
    cells = over_seeds(scores)
    lines = lines_of(scores, metrics)
    tasks = distinct(cells, "task")
    samplers = distinct(cells, "sampler")
    figure, axes = panels(len(tasks), len(samplers))
    for row, task in zip(axes, tasks, strict=True):
        limits = _per_cent(select(cells, task=task), select(scores, task=task))
        for ax, sampler in zip(row, samplers, strict=True):
            panel = select(cells, task=task, sampler=sampler)
            _lines_by_length(ax, panel, select(scores, task=task, sampler=sampler), lines)
            title = heading(task_name(task), sampler_name(sampler))
            ax.set(title=title, xlabel="generation length (tokens)", ylim=limits)
            ax.set_xticks(distinct(panel, "length"))
        row[0].set_ylabel("correct answers (%)")
    return finish(figure, handles_of(lines.values()), of_scores(scores))


def _lines_by_length(ax: Axes, panel: pd.DataFrame, scores: pd.DataFrame, lines: Mapping[Policy, Line]) -> None:
    """Draw a line per method and variant, side by side, with the seeds of each."""
    policies = list(by_policy(panel))
    shifts = side_by_side(panel["length"], len(policies))
    for (method, variant, cells), shift in zip(policies, shifts, strict=True):
        look = lines[method, variant].look
        points_of(ax, cells["length"].to_numpy() + shift, 100 * cells[STRICT].to_numpy(), look)

        runs = select(scores, method=method, variant=variant)
        by_seed = 100 * runs.pivot(index="length", columns="seed", values="strict")
        if by_seed.shape[1] > 1:
            seeds_of(ax, by_seed.index.to_numpy() + shift, by_seed, look, ASIDE)


def _per_cent(cells: pd.DataFrame, scores: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold all means, intervals and seeds, at most 0 to 101 %; the same where nothing was right."""
    most = max(cells["strict"].max(), cells["strict_high"].max(), scores["strict"].max())
    if np.isnan(most):
        most = scores["strict"].max()
    # Limits that coincide would be an error.
    if most == 0:
        return 0, 101
    with_margin = min(1.0, 1.05 * most)
    return 0, 101 * with_margin


class Mark(NamedTuple):
    """How the points of a policy are drawn, whatever the sampler: colour and dash of its line, fill of its markers."""

    line: Line
    fill: Fill

    def style(self, marker: str) -> dict[str, Any]:
        """Return matplotlib's arguments for points with a marker."""
        look = self.line.look
        return {
            "color": look.colour,
            "linestyle": DASHES[look.dash],
            "linewidth": 1.2,
            "marker": marker,
            "markersize": SIZES.get(marker, 6),
            # White, not transparent: what is below a hollow marker would look like a filling.
            "fillstyle": "full" if self.fill == "none" else self.fill,
            "markerfacecolor": "white" if self.fill == "none" else look.colour,
            "markerfacecoloralt": "white",
            # A white edge sets a full marker off from a star around it; a hollow one needs its colour.
            "markeredgecolor": "white" if self.fill == "full" else look.colour,
            "markeredgewidth": 0.6 if self.fill == "full" else 1.0,
        }


def accuracy_by_nfe(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy against forward passes, a row of panels per task, a column per length, a point per sampler.

    Samplers of one kind are joined and share the shape of their marker; bars are intervals.
    """
    cells = over_seeds(scores)
    marks = {}
    for number, (policy, line) in enumerate(lines_of(scores, metrics).items()):
        marks[policy] = Mark(line, FILLS[number % len(FILLS)])
    tasks = distinct(cells, "task")
    lengths = distinct(cells, "length")
    figure, axes = panels(len(tasks), len(lengths))
    shared_limits = _powers_of_two(scores["nfe"])
    for row, task in zip(axes, tasks, strict=True):
        limits = _per_cent(select(cells, task=task), select(scores, task=task))
        for ax, length in zip(row, lengths, strict=True):
            panel = select(cells, task=task, length=length)
            _lines_by_nfe(ax, panel, select(scores, task=task, length=length), marks)
            title = heading(task_name(task), f"L = {length}")
            ax.set(title=title, xlabel="forward passes per response")
            ax.set(xscale="log", xlim=shared_limits, ylim=limits)
            ax.xaxis.set_major_locator(LogLocator(base=2))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter("{x:g}")
        row[0].set_ylabel("correct answers (%)")
    return finish(figure, _handles(marks, distinct(cells, "sampler")), of_scores(scores))


def _handles(marks: Mapping[Policy, Mark], samplers: list[str]) -> list[Artist]:
    """Return the entries of the legend: each policy with its fill, each kind of sampler with its marker."""
    handles: list[Artist] = []
    for mark in marks.values():
        handles.append(Line2D([], [], label=mark.line.name, **mark.style("o")))
    for kind, marker in dict(map(sampler_kind, samplers)).items():
        size = SIZES.get(marker, 6)
        handles.append(Line2D([], [], label=kind, color="#666666", linestyle="none", marker=marker, markersize=size))
    return handles


def _powers_of_two(values: pd.Series) -> tuple[float, float]:
    """Return limits from one power of two to another, a little wider: no marker is drawn on the axis itself."""
    lowest = 2 ** np.floor(np.log2(values.min()))
    highest = 2 ** np.ceil(np.log2(values.max()))
    return lowest / AXIS_MARGIN, highest * AXIS_MARGIN


def _lines_by_nfe(ax: Axes, panel: pd.DataFrame, scores: pd.DataFrame, marks: Mapping[Policy, Mark]) -> None:
    """Draw a line per method, variant and kind of sampler, with the seeds of each."""
    for method, variant, cells in by_policy(panel):
        mark = marks[method, variant]
        # Only samplers of one kind are joined: between two kinds there is no sampler.
        kinds = [sampler_kind(sampler)[0] for sampler in cells.sampler]
        for _, points in cells.groupby(kinds, sort=False):
            _points(ax, points.sort_values("nfe"), mark)

        # Seeds differ in their passes, too, if the sampler decides how many it makes.
        runs = select(scores, method=method, variant=variant)
        if runs["seed"].nunique() > 1:
            strict = 100 * runs[["strict"]].to_numpy()
            seeds_of(ax, runs["nfe"].to_numpy(), strict, mark.line.look)


def _points(ax: Axes, points: pd.DataFrame, mark: Mark) -> None:
    """Draw samplers of one kind as joined points with error bars."""
    x = points["nfe"]
    y, low, high = 100 * points[STRICT].to_numpy().T
    _, marker = sampler_kind(points.sampler.iloc[0])
    ax.errorbar(
        x,
        y,
        (y - low, high - y),
        fmt="none",
        ecolor=mark.line.look.colour,
        elinewidth=0.8,
        alpha=0.5,
    )
    # Stars go below the other markers, which would be hidden otherwise.
    order = 1.9 if marker == STAR else 2
    ax.plot(x, y, zorder=order, **mark.style(marker))
