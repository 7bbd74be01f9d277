"""Figure of the candidates that a tuning compares."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.style import panels
from unmask.analysis.tuning import Choice, text
from unmask.common.catalogue import task_name
from unmask.methods import method_colour, method_name


def candidates(choices: list[Choice]) -> Figure:
    """Plot the validation accuracy during training of every candidate, a panel per task and a row of points per method.

    A small point is a seed, a bar the mean over seeds; the chosen candidate is filled.
    """
    tasks = list(dict.fromkeys(choice.task for choice in choices))
    figure, axes = panels(1, len(tasks), same="none")
    most = 0
    for ax, task in zip(axes[0], tasks, strict=True):
        ticks: list[tuple[float, str]] = []
        for choice in choices:
            if choice.task == task:
                ticks += _of_method(ax, choice, len(ticks))
        ax.set_yticks([place for place, _ in ticks], [label for _, label in ticks], fontsize=7)
        ax.invert_yaxis()
        ax.set(title=task_name(task), xlabel="validation accuracy, mean over training (%)")
        most = max(most, len(ticks))
    figure.set_size_inches(5.2 * len(tasks), 1.2 + 0.22 * most)
    return figure


def _of_method(ax: Axes, choice: Choice, first: int) -> list[tuple[float, str]]:
    """Draw the candidates of a method from line `first` on; return the tick of each."""
    colour = method_colour(choice.method)
    ticks: list[tuple[float, str]] = []
    for place, one in enumerate(choice.candidates, first):
        scores = [100 * score for score in one.scores.values()]
        filled: dict[str, Any] = {"facecolors": colour} if one is choice.chosen else {"facecolors": "none"}
        ax.plot(scores, [place] * len(scores), "|", color=colour, markersize=5)
        ax.scatter([100 * one.score], [place], s=28, edgecolors=colour, zorder=3, **filled)
        ticks.append((place, f"{method_name(choice.method)}, {text(one.settings)}"))
    return ticks
