"""Figures of accuracy against one setting of an experiment's grid, and by how the checkpoint is chosen."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.counts import of_scores
from unmask.analysis.figures.drawing import ASIDE, means, points_of, seeds_of
from unmask.analysis.figures.looks import DASHES, Line, Policy, lines_of, looks_of
from unmask.analysis.figures.style import finish, handles_of, heading, panels
from unmask.analysis.frames import by_policy
from unmask.analysis.selection import WAYS, choices
from unmask.common.catalogue import sampler_name, setting_name, task_name
from unmask.common.errors import InputError
from unmask.methods import method_name


@dataclass(frozen=True)
class SettingAxis:
    """Setting on the x axis and its values: to scale if all of them fit on a logarithmic axis, else a tick for each."""

    key: str
    values: list[Any]

    @property
    def numeric(self) -> bool:
        """True if all values are positive numbers."""
        # `type`, because isinstance takes True and False for numbers.
        return all(type(value) in (int, float) and value > 0 for value in self.values)

    def place(self, settings: Mapping[str, Any]) -> float:
        """Return where settings are on the axis; NaN if they lack the setting."""
        if self.key not in settings:
            return np.nan
        value = settings[self.key]
        return value if self.numeric else self.values.index(value)

    def draw(self, ax: Axes, places: pd.Series) -> None:
        """Name the axis and draw its ticks: at the places of a panel's runs if numeric, else one for each value."""
        ax.set_xlabel(self.key.replace("_", " "))
        if not self.numeric:
            ax.set_xticks(range(len(self.values)), map(str, self.values))
            return

        ax.set_xscale("log")
        ax.set_xticks(sorted(places.dropna().unique()), minor=False)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()


def accuracy_by_setting(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy, averaged over lengths, against one setting of a grid, a panel per task and sampler.

    The x axis is the setting with most values. Each choice of the other settings is a line, or points if the values are
    not numbers. Policies without the setting, such as the base model, are horizontal lines. Raises InputError if no run
    varies a setting.
    """
    varied = _varied(scores["variant"])
    if not varied or metrics.empty:
        raise InputError("every run in the scores has the default settings: there is no setting to draw against")

    # Metrics have all settings of a run, also those at the default.
    by_policy = metrics.groupby(["method", "variant"], sort=False)
    settings = by_policy["settings"].first().map(json.loads)
    axis = _longest_axis(varied, settings)
    placed = _placed(scores, settings, axis, varied)
    cells = list(placed.groupby(["task", "sampler"], sort=False))

    lines = _named(placed)
    figure, axes = panels(1, len(cells))
    for ax, ((task, sampler), panel) in zip(axes[0], cells, strict=True):
        _lines(ax, panel, axis, lines)
        _horizontal_lines(ax, panel, lines)
        title = heading(task_name(task), sampler_name(sampler))
        ax.set(title=title, ylim=(0, 101))
        axis.draw(ax, panel["at"])
    axes[0, 0].set_ylabel("correct answers (%)")
    return finish(figure, handles_of(lines.values()), of_scores(scores))


def checkpoint_choice(scores: pd.DataFrame, metrics: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Plot test accuracy by how the moment of training is chosen, averaged over lengths, a panel per task and sampler.

    Points are means with their intervals over seeds, and single seeds. Raises InputError if no run differs from another
    in the number of buffers alone.
    """
    found = choices(samples, metrics)
    if found.empty:
        raise InputError("no runs differ in `buffers` alone, each validated: there are no moments to choose among")
    lines = lines_of(found, metrics)
    cells = list(found.groupby(["task", "sampler"], sort=False))
    figure, axes = panels(1, len(cells))
    for ax, ((task, sampler), panel) in zip(axes[0], cells, strict=True):
        for number, (method, variant, rows) in enumerate(by_policy(panel)):
            by_seed = 100 * rows.groupby("seed")[list(WAYS)].mean().T
            x = np.arange(len(WAYS)) + 0.12 * number
            look = lines[method, variant].look
            points_of(ax, x, means(by_seed), look, joined=False)
            if by_seed.shape[1] > 1:
                seeds_of(ax, x, by_seed, look, ASIDE)
        ax.set(title=heading(task_name(task), sampler_name(sampler)))
        ax.set_xticks(range(len(WAYS)), [textwrap.fill(name, 14) for name in WAYS.values()], fontsize=7)
    axes[0, 0].set_ylabel("test accuracy (%)")
    return finish(figure, handles_of(lines.values()), of_scores(scores[scores["method"] != "base"]))


def _named(placed: pd.DataFrame) -> dict[Policy, Line]:
    """Return the line of each method and choice of the settings that are not on the axis."""
    policies: list[Policy] = []
    own: dict[str, Policy] = {}
    for (method, choice), _ in placed.groupby(["method", "choice"], sort=False):
        policies.append((method, choice))
        own.setdefault(method, (method, choice))
    looks = looks_of(policies, list(own.values()))
    # Policies without the setting have no points.
    with_points = set(placed.dropna()[["method", "choice"]].itertuples(index=False, name=None))
    lines = {}
    for method, choice in policies:
        name = f"{method_name(method)} ({choice})" if choice else method_name(method)
        look = looks[method, choice]
        if (method, choice) not in with_points:
            look = look._replace(marker="")
        lines[method, choice] = Line(name, look)
    return lines


def _varied(variants: pd.Series) -> list[str]:
    """Return the settings that some variant changes, in order of first appearance."""
    # A variant is `default` or `key~value+key~value`.
    keys = []
    for variant in variants.unique():
        for part in variant.split("+"):
            key, changed, _ = part.partition("~")
            if changed:
                keys.append(key)
    return list(dict.fromkeys(keys))


def _longest_axis(varied: list[str], settings: pd.Series) -> SettingAxis:
    """Return the setting with most values, a numeric one if several have as many."""
    axes = []
    for key in varied:
        # Told apart as text, because a value may be a list.
        found = {}
        for run in settings:
            if key in run:
                found[str(run[key])] = run[key]
        axes.append(SettingAxis(key, list(found.values())))
    return max(axes, key=lambda axis: (len(axis.values), axis.numeric))


def _placed(
    scores: pd.DataFrame,
    settings: pd.Series,
    axis: SettingAxis,
    varied: list[str],
) -> pd.DataFrame:
    """Average scores over lengths, with the place of each row on the axis and the choice of the other settings."""
    # A setting that has one value in all runs tells no lines apart.
    others = []
    for key in varied:
        values = {str(run.get(key)) for run in settings}
        if key != axis.key and len(values) > 1:
            others.append(key)

    runs = scores.groupby(["task", "sampler", "method", "variant", "seed"], sort=False)
    mean = runs["strict"].mean().reset_index()
    places = []
    choices = []
    for row in mean.itertuples():
        # Policies without metrics (the base model) have no settings, hence NaN on the axis.
        own = settings.get((row.method, row.variant)) or {}
        places.append(axis.place(own))
        chosen = [setting_name(key, own[key]) for key in others if key in own]
        choices.append(", ".join(chosen))
    return mean.assign(at=places, choice=choices)


def _lines(ax: Axes, panel: pd.DataFrame, axis: SettingAxis, lines: Mapping[Policy, Line]) -> None:
    """Draw a line, or points, per method and choice of the other settings."""
    groups = panel.dropna().groupby(["method", "choice"], sort=False)
    for number, (policy, line) in enumerate(groups):
        accuracy = 100 * line.pivot(index="at", columns="seed", values="strict")
        x = accuracy.index.to_numpy(dtype=float)
        # Next to each other: by a factor on a logarithmic axis, by a step between two names of values.
        x = x * 1.03**number if axis.numeric else x + 0.08 * number
        look = lines[policy].look
        points_of(ax, x, means(accuracy), look, joined=axis.numeric)
        if accuracy.shape[1] > 1:
            seeds_of(ax, x, accuracy, look, ASIDE)


def _horizontal_lines(ax: Axes, panel: pd.DataFrame, lines: Mapping[Policy, Line]) -> None:
    """Draw the mean of each method without the setting as a horizontal line."""
    without = panel[panel["at"].isna()]
    for policy, runs in without.groupby(["method", "choice"], sort=False):
        y = 100 * runs["strict"].mean()
        look = lines[policy].look
        ax.axhline(y, color=look.colour, linestyle=DASHES[look.dash], linewidth=1.2)
