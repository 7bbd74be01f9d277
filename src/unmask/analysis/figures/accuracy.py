"""Figures of strict accuracy: against generation length, and against forward passes.

Bands and error bars are 95 % intervals over seeds, or over test problems for a base model that is evaluated once. A
method has the same colour in every figure, and lines are labelled at their ends.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from unmask.analysis.figures.style import End, bars_of, heading, labels, line_of, panels
from unmask.analysis.frames import by_policy, select
from unmask.analysis.scores import over_seeds
from unmask.common.catalogue import sampler_kind, sampler_name, task_name
from unmask.methods import method_colour

MOST_BANDS = 4  # lines in a panel; with more of them intervals are error bars
STRICT = ["strict", "strict_low", "strict_high"]


def accuracy_by_length(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy against generation length, a row of panels per task, a column per step mode."""
    cells = over_seeds(scores)
    tasks, samplers = cells["task"].unique(), cells["sampler"].unique()
    figure, axes = panels(len(tasks), len(samplers))
    for row, task in zip(axes, tasks, strict=True):
        limits = _per_cent(select(cells, task=task))
        for ax, sampler in zip(row, samplers, strict=True):
            panel = select(cells, task=task, sampler=sampler)
            ends = _lines_by_length(ax, panel)
            ax.set(title=heading(task_name(task), sampler_name(sampler)), ylim=limits)
            ax.set_xticks(panel["length"].unique())

            # Labels need the final limits, and start right of the longest line, which may be a shifted one.
            right = max(line.get_xdata()[-1] for line in ax.lines)
            labels(ax, [end._replace(x=right) for end in ends])
            ax.set_xlabel("generation length (tokens)")
        row[0].set_ylabel("right answers (%)")
    return figure


def _lines_by_length(ax: Axes, panel: pd.DataFrame) -> list[End]:
    """Draw a line per method and variant; return their ends."""
    ends = []
    drawn: Counter[str] = Counter()
    policies = list(by_policy(panel))
    for number, (method, variant, line) in enumerate(policies):
        x = line["length"].to_numpy()
        y = 100 * line[STRICT].to_numpy()
        # Variants of a method share its colour and differ by line style.
        style = drawn[method]
        drawn[method] += 1

        # Many bands would cover each other: draw error bars, shifted sideways so that they stay apart.
        if len(policies) > MOST_BANDS:
            from_middle = number - (len(policies) - 1) / 2
            x = x + from_middle * 0.02 * np.ptp(x)
            bars_of(ax, x, y, method, style)
        else:
            line_of(ax, x, y, method, style=style)
        ends.append(End(x[-1], y[-1, 0], method, variant))
    return ends


def _per_cent(cells: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold all means and intervals, at most 0 to 101 %; the same where nothing was right."""
    high = cells[["strict", "strict_high"]].max(axis=None)
    if high == 0:
        return 0, 101
    return 0, 101 * min(1.0, 1.05 * high)


def accuracy_by_nfe(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy against forward passes, a row of panels per task, a column per length, a point per sampler.

    Samplers of one kind are joined and share a marker; bars are intervals.
    """
    cells = over_seeds(scores)
    tasks, lengths = cells["task"].unique(), cells["length"].unique()
    figure, axes = panels(len(tasks), len(lengths))
    # All panels share the x axis, from one power of two to another.
    left = 2 ** np.floor(np.log2(cells["nfe"].min()))
    right = 2 ** np.ceil(np.log2(cells["nfe"].max()))
    for row, task in zip(axes, tasks, strict=True):
        limits = _per_cent(select(cells, task=task))
        for ax, length in zip(row, lengths, strict=True):
            ends = _lines_by_nfe(ax, select(cells, task=task, length=length))
            ax.set(title=heading(task_name(task), f"L = {length}"), xlabel="forward passes a response", xscale="log")
            ax.set(xlim=(left, right), ylim=limits)
            ax.xaxis.set_major_locator(LogLocator(base=2))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter("{x:g}")
            labels(ax, ends)
        row[0].set_ylabel("right answers (%)")

    kinds = dict(map(sampler_kind, cells["sampler"].unique()))
    handles = []
    for kind, marker in kinds.items():
        handles.append(Line2D([], [], color="#666666", marker=marker, label=kind))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _lines_by_nfe(ax: Axes, panel: pd.DataFrame) -> list[End]:
    """Draw a line per method, variant and kind of sampler; return where each method and variant ends."""
    ends = []
    for method, variant, line in by_policy(panel):
        kinds = [sampler_kind(sampler)[0] for sampler in line["sampler"]]
        for _, points in line.groupby(kinds, sort=False):
            _points(ax, points.sort_values("nfe"), method)
        last = line.loc[line["nfe"].idxmax()]
        ends.append(End(last["nfe"], 100 * last["strict"], method, variant))
    return ends


def _points(ax: Axes, points: pd.DataFrame, method: str) -> None:
    """Draw samplers of one kind as joined points with error bars."""
    x = points["nfe"]
    y, low, high = 100 * points[STRICT].to_numpy().T
    _, marker = sampler_kind(points["sampler"].iloc[0])
    colour = method_colour(method)
    ax.errorbar(x, y, (y - low, high - y), fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.35)
    ax.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=1.2)
