"""Figures of strict accuracy: against generation length, and against forward passes.

Bands and error bars are 95 % intervals over seeds, or over test problems for a base model that is evaluated once. A
method has the same colour in every figure, and lines are labelled at their ends.
"""

from __future__ import annotations

from collections import Counter
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from unmask.analysis.figures.style import End, bars_of, end_of, heading, labels, line_of, panels
from unmask.analysis.frames import by_policy, distinct, select
from unmask.analysis.scores import over_seeds
from unmask.common.catalogue import sampler_kind, sampler_name, task_name
from unmask.methods import method_colour

MOST_BANDS = 4  # lines in a panel; with more of them intervals are error bars
AXIS_MARGIN = 1.1  # of a logarithmic axis, left and right
STRICT = ["strict", "strict_low", "strict_high"]
STAR = "*"


class MarkerStyle(TypedDict):
    """Arguments of matplotlib that decide how a marker looks; the face has the colour of the line by default."""

    marker: str
    markersize: int
    markerfacecolor: NotRequired[str]


def accuracy_by_length(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy against generation length, a row of panels per task, a column per step mode."""
    cells = over_seeds(scores)
    tasks = distinct(cells, "task")
    samplers = distinct(cells, "sampler")
    figure, axes = panels(len(tasks), len(samplers))
    for row, task in zip(axes, tasks, strict=True):
        limits = _per_cent(select(cells, task=task))
        for ax, sampler in zip(row, samplers, strict=True):
            panel = select(cells, task=task, sampler=sampler)
            ends = _lines_by_length(ax, panel)
            title = heading(task_name(task), sampler_name(sampler))
            ax.set(title=title, xlabel="generation length (tokens)", ylim=limits)
            ax.set_xticks(distinct(panel, "length"))
            labels(ax, ends)
        row[0].set_ylabel("right answers (%)")
    return figure


def _lines_by_length(ax: Axes, panel: pd.DataFrame) -> list[End]:
    """Draw a line per method and variant; return their ends."""
    ends = []
    drawn: Counter[str] = Counter()
    policies = list(by_policy(panel))
    for number, (method, variant, line) in enumerate(policies):
        x = line.length.to_numpy()
        y = 100 * line[STRICT].to_numpy()
        # Variants of a method share its colour and differ by line style.
        style = drawn[method]
        drawn[method] += 1

        # Many bands would cover each other: draw error bars, shifted sideways so that they stay apart.
        if len(policies) > MOST_BANDS:
            middle = (len(policies) - 1) / 2
            shift = 0.02 * np.ptp(x)
            x = x + (number - middle) * shift
            bars_of(ax, x, y, method, style)
        else:
            line_of(ax, x, y, method, style=style)
        ends.append(end_of(x, y, method, variant))
    return ends


def _per_cent(cells: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold all means and intervals, at most 0 to 101 %; the same where nothing was right."""
    highest = cells[["strict", "strict_high"]].max(axis=None)
    # Limits that coincide would be an error.
    if highest == 0:
        return 0, 101
    with_margin = min(1.0, 1.05 * highest)
    return 0, 101 * with_margin


def accuracy_by_nfe(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy against forward passes, a row of panels per task, a column per length, a point per sampler.

    Samplers of one kind are joined and share a marker; bars are intervals.
    """
    cells = over_seeds(scores)
    tasks = distinct(cells, "task")
    lengths = distinct(cells, "length")
    figure, axes = panels(len(tasks), len(lengths))
    shared_limits = _powers_of_two(cells["nfe"])
    for row, task in zip(axes, tasks, strict=True):
        limits = _per_cent(select(cells, task=task))
        for ax, length in zip(row, lengths, strict=True):
            panel = select(cells, task=task, length=length)
            ends = _lines_by_nfe(ax, panel)
            title = heading(task_name(task), f"L = {length}")
            ax.set(title=title, xlabel="forward passes a response")
            ax.set(xscale="log", xlim=shared_limits, ylim=limits)
            ax.xaxis.set_major_locator(LogLocator(base=2))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter("{x:g}")
            labels(ax, ends)
        row[0].set_ylabel("right answers (%)")

    kinds = dict(map(sampler_kind, distinct(cells, "sampler")))
    handles = []
    for kind, marker in kinds.items():
        handles.append(Line2D([], [], color="#666666", label=kind, **_marker_style(marker)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
    )
    return figure


def _powers_of_two(values: pd.Series) -> tuple[float, float]:
    """Return limits from one power of two to another, a little wider: no marker is drawn on the axis itself."""
    lowest = 2 ** np.floor(np.log2(values.min()))
    highest = 2 ** np.ceil(np.log2(values.max()))
    return lowest / AXIS_MARGIN, highest * AXIS_MARGIN


def _lines_by_nfe(ax: Axes, panel: pd.DataFrame) -> list[End]:
    """Draw a line per method, variant and kind of sampler; return where each method and variant ends."""
    ends = []
    for method, variant, line in by_policy(panel):
        # Only samplers of one kind are joined: between two kinds there is no sampler.
        kinds = [sampler_kind(sampler)[0] for sampler in line.sampler]
        for _, points in line.groupby(kinds, sort=False):
            _points(ax, points.sort_values("nfe"), method)
        last = line.loc[line.nfe.idxmax()]
        ends.append(End(last.nfe, 100 * last.strict, method, variant))
    return ends


def _marker_style(marker: str) -> MarkerStyle:
    """Return how to draw a marker. A star is large and hollow, so that it shows around a point in the same place."""
    # A learned threshold often makes as many passes as one of the fixed ones, with the same accuracy.
    if marker == STAR:
        return {"marker": marker, "markersize": 12, "markerfacecolor": "white"}
    return {"marker": marker, "markersize": 5}


def _points(ax: Axes, points: pd.DataFrame, method: str) -> None:
    """Draw samplers of one kind as joined points with error bars."""
    x = points["nfe"]
    y, low, high = 100 * points[STRICT].to_numpy().T
    colour = method_colour(method)
    ax.errorbar(
        x,
        y,
        (y - low, high - y),
        fmt="none",
        ecolor=colour,
        elinewidth=0.8,
        alpha=0.35,
    )
    _, marker = sampler_kind(points.sampler.iloc[0])
    # Hollow stars go below the other markers, which would be hidden otherwise.
    order = 1.9 if marker == STAR else 2
    ax.plot(x, y, color=colour, linewidth=1.2, zorder=order, **_marker_style(marker))
