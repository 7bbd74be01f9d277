"""Figure of the candidates that a tuning compares."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.style import finish, panels
from unmask.analysis.tuning import Choice, text
from unmask.common.catalogue import task_name
from unmask.methods import method_look, method_name


def candidates(choices: list[Choice]) -> Figure:
    """Plot the validation accuracy during training of every candidate, a panel per task and a row of points per method.

    A stroke is a seed, a marker the mean over seeds; that of the chosen candidate is filled.
    """
    tasks = list(dict.fromkeys(choice.task for choice in choices))
    figure, axes = panels(1, len(tasks), same="none")
    most = 0
    for ax, task in zip(axes[0], tasks, strict=True):
        ticks: list[tuple[float, str]] = []
        for choice in choices:
            if choice.task == task:
                ticks += _of_method(ax, choice, len(ticks))
        ax.set_yticks([place for place, _ in ticks], [label for _, label in ticks], fontsize=8)
        ax.invert_yaxis()
        ax.set(title=task_name(task), xlabel="mean validation accuracy (%)")
        most = max(most, len(ticks))
    figure.set_size_inches(5.2 * len(tasks), 1.2 + 0.22 * most)
    seeds = {len(one.scores) for choice in choices for one in choice.candidates}
    counts = f"{' or '.join(map(str, sorted(seeds)))} seeds per candidate: strokes; their mean: marker; chosen: filled."
    return finish(figure, [], counts)


def _of_method(ax: Axes, choice: Choice, first: int) -> list[tuple[float, str]]:
    """Draw the candidates of a method from line `first` on; return the tick of each."""
    look = method_look(choice.method)
    colour = look.colour
    ticks: list[tuple[float, str]] = []
    for place, one in enumerate(choice.candidates, first):
        scores = [100 * score for score in one.scores.values()]
        filled: dict[str, Any] = {"facecolors": colour} if one is choice.chosen else {"facecolors": "none"}
        ax.plot(scores, [place] * len(scores), "|", color=colour, markersize=7)
        ax.scatter([100 * one.score], [place], s=28, marker=look.marker, edgecolors=colour, zorder=3, **filled)
        ticks.append((place, f"{method_name(choice.method)}, {text(one.settings)}"))
    return ticks
