"""Figure of the candidates that a tuning compares."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.style import finish, panels
from unmask.analysis.tuning import Choice
from unmask.common.catalogue import task_name
from unmask.methods import method_look, method_name

STEP = 0.16  # between the lines of two candidates; methods are one apart


def candidates(choices: list[Choice]) -> Figure:
    """Plot the validation accuracy during training of every candidate, a panel per task and a line per candidate.

    A line goes from the worst to the best seed; a marker is the mean, filled for the chosen candidate. Candidates are
    in the order of the table.
    """
    tasks = list(dict.fromkeys(choice.task for choice in choices))
    figure, axes = panels(1, len(tasks), same="none")
    rows = 0
    for ax, task in zip(axes[0], tasks, strict=True):
        of_task = [choice for choice in choices if choice.task == task]
        for row, choice in enumerate(of_task):
            _of_method(ax, choice, row)
        names = [method_name(choice.method) for choice in of_task]
        middles = [row + STEP * (len(choice.candidates) - 1) / 2 for row, choice in enumerate(of_task)]
        ax.set_yticks(middles, names, fontsize=8)
        ax.set(title=task_name(task), xlabel="mean validation accuracy (%)")
        rows = max(rows, len(of_task))

    # All panels have room for the longest, so that a method is equally high in each.
    for ax in axes[0]:
        ax.set_ylim(rows, -2 * STEP)
    figure.set_size_inches(3.2 * len(tasks), 1.4 + 0.45 * rows)
    seeds = {len(one.scores) for choice in choices for one in choice.candidates}
    counts = f"{' or '.join(map(str, sorted(seeds)))} seeds per candidate: line; their mean: marker; chosen: filled."
    return finish(figure, [], counts)


def _of_method(ax: Axes, choice: Choice, row: int) -> None:
    """Draw the candidates of a method, the first at the height of its row."""
    look = method_look(choice.method)
    for number, one in enumerate(choice.candidates):
        place = row + STEP * number
        scores = [100 * score for score in one.scores.values()]
        fill = look.colour if one is choice.chosen else "white"
        ax.hlines(place, min(scores), max(scores), color=look.colour, linewidth=1)
        ax.scatter(
            [100 * one.score], [place], s=20, marker=look.marker, edgecolors=look.colour, facecolors=fill, zorder=3
        )
