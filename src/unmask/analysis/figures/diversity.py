"""Figure of evaluations with several samples per problem: what a policy keeps of several right answers."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.counts import of_scores
from unmask.analysis.figures.drawing import seeds_of
from unmask.analysis.figures.looks import Line, lines_of
from unmask.analysis.figures.style import finish, handles_of, panels
from unmask.analysis.frames import by_policy, distinct, select
from unmask.analysis.metric_names import DISTINCT, PAIRS
from unmask.analysis.scores import over_seeds
from unmask.common.catalogue import task_name
from unmask.common.errors import InputError

# Measures above one another: label and scale.
MEASURES = {
    PAIRS: ("pairs of right answers that differ (%)", 100),
    DISTINCT: ("different right answers per problem", 1),
}


def diversity_by_accuracy(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot how many right answers differ against pass@1, a row of panels per measure, a column per task.

    The share of pairs that differ does not grow with accuracy, but each policy's mean is over the problems that it
    solves twice, which may have more solutions; the number of different answers grows with accuracy. Raises InputError
    if the evaluation has one sample per problem, or several samplers or lengths.
    """
    if DISTINCT not in scores:
        raise InputError("the evaluation has one sample per problem: set its samples_per_problem")
    if len(scores[["sampler", "length"]].drop_duplicates()) > 1:
        raise InputError("the evaluation has several samplers or lengths: the figure has a point for one of them")

    cells = over_seeds(scores)
    lines = lines_of(scores, metrics)
    tasks = distinct(cells, "task")
    figure, axes = panels(len(MEASURES), len(tasks))
    for row, measure in zip(axes, MEASURES, strict=True):
        for ax, task in zip(row, tasks, strict=True):
            runs = select(scores, task=task)
            for method, variant, means in by_policy(select(cells, task=task)):
                _policy(ax, measure, means, select(runs, method=method, variant=variant), lines[method, variant])
            ax.set(title=task_name(task), xlabel="pass@1 (%)", xlim=(0, None))
        # After all panels of the row, which share the axis: a limit ends its scaling.
        row[0].set(ylabel=MEASURES[measure][0], ylim=(0, None))
    return finish(figure, handles_of(lines.values()), of_scores(scores))


def _policy(ax: Axes, measure: str, cells: pd.DataFrame, runs: pd.DataFrame, line: Line) -> None:
    """Draw the mean of a policy with both intervals, and its seeds."""
    look = line.look
    (x, x_low, x_high), (y, y_low, y_high) = (
        [scale * cells[f"{name}{end}"].to_numpy() for end in ("", "_low", "_high")]
        for name, scale in (("pass_at_1", 100), (measure, MEASURES[measure][1]))
    )
    ax.errorbar(x, y, (y - y_low, y_high - y), (x - x_low, x_high - x), fmt="none", ecolor=look.colour, elinewidth=1)
    ax.plot(x, y, color=look.colour, marker=look.marker, markersize=7, markeredgecolor="white", linestyle="none")
    if runs["seed"].nunique() > 1:
        values = MEASURES[measure][1] * runs[[measure]].to_numpy()
        seeds_of(ax, 100 * runs["pass_at_1"].to_numpy(), values, look)
