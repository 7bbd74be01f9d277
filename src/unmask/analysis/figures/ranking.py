"""Figure of many methods at once: one row each, labelled with its name, so that no colour has to tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.counts import of_scores
from unmask.analysis.figures.looks import Line, Policy, lines_of
from unmask.analysis.figures.style import finish, heading, panels
from unmask.analysis.frames import by_policy
from unmask.analysis.scores import interval, over_seeds
from unmask.common.catalogue import sampler_name, task_name
from unmask.methods import Look

ROW = 0.24  # height of a row in inches
BELOW = 0.24  # how far below its mean a row has its seeds, in rows
PLAIN = Look("", "#1155BB", "o", "solid")
BASE = "base"


def accuracy_by_method(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy, averaged over lengths, a row per method from best to worst, a panel per task and sampler.

    Bars are 95 % intervals over seeds, or over test problems for a base model that is evaluated once.
    """
    lines = lines_of(scores, metrics)
    cells = list(scores.groupby(["task", "sampler"], sort=False))
    figure, axes = panels(1, len(cells), same="none")
    most = max(len(list(by_policy(panel))) for _, panel in cells)
    figure.set_figheight(1.1 + ROW * most)
    for ax, ((task, sampler), panel) in zip(axes[0], cells, strict=True):
        _rows(ax, panel, lines)
        ax.set(title=heading(task_name(task), sampler_name(sampler)), xlabel="correct answers (%)", xlim=(0, None))
    return finish(figure, [], of_scores(scores))


def _rows(ax: Axes, panel: pd.DataFrame, lines: dict[Policy, Line]) -> None:
    """Draw the policies of a panel from the top, and a vertical line at the base model."""
    rows = []
    for method, variant, runs in by_policy(panel):
        by_seed = 100 * runs.groupby("seed")["strict"].mean().to_numpy()
        rows.append((method, lines[method, variant].name, by_seed, _interval(runs, by_seed)))
    rows.sort(key=lambda row: row[3][0], reverse=True)

    for place, (method, _, by_seed, (mean, low, high)) in enumerate(rows):
        colour = "#000000" if method == BASE else PLAIN.colour
        ax.plot([low, high], [place, place], color=colour, linewidth=1.2)
        ax.plot(mean, place, marker=PLAIN.marker, markersize=6, color=colour, markeredgecolor="white")
        if len(by_seed) > 1:
            ax.scatter(by_seed, np.full(len(by_seed), place + BELOW), s=7, color=colour, alpha=0.5, linewidths=0)
        if method == BASE:
            ax.axvline(mean, color=colour, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    ax.set_yticks(range(len(rows)), [name for _, name, _, _ in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _interval(runs: pd.DataFrame, by_seed: np.ndarray) -> tuple[float, float, float]:
    """Return mean and interval in percent: over seeds, or of the lengths' mean over problems for a single run."""
    if len(by_seed) > 1:
        return interval(by_seed)
    # Lengths share their problems, so their errors are not independent: the mean of the intervals is no narrower.
    cells = over_seeds(runs)[["strict", "strict_low", "strict_high"]].mean()
    mean, low, high = 100 * cells.to_numpy()
    return mean, low, high
