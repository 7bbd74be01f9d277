"""Figures of scores: functions of scores and training metrics that return a matplotlib figure.

Bands and error bars are 95 % intervals over seeds, or over test problems for a base model that is evaluated once. A
method has the same colour in every figure, and lines are labelled at their ends.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from unmask.analysis.figures.style import bars_of, heading, labels, line_of, means, panels
from unmask.analysis.scores import over_seeds
from unmask.common.catalogue import method_colour, method_name, sampler_kind, sampler_name, setting_name, task_name
from unmask.common.errors import InputError

MOST_BANDS = 4  # lines in a panel; with more of them intervals are error bars


def accuracy_by_length(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy against generation length, a row of panels per task, a column per step mode."""
    cells = over_seeds(scores)
    tasks, samplers = list(cells["task"].unique()), list(cells["sampler"].unique())
    figure, axes = panels(len(tasks), len(samplers))
    for i, task in enumerate(tasks):
        for j, sampler in enumerate(samplers):
            ax = axes[i, j]
            panel = cells[(cells["task"] == task) & (cells["sampler"] == sampler)]
            ends = []
            lines = list(panel.groupby(["method", "variant"], sort=False))
            for k, ((method, variant), line) in enumerate(lines):
                x, y = line["length"].to_numpy(), 100 * line[["strict", "strict_low", "strict_high"]].to_numpy()
                # Variants of a method share its colour and differ by line style.
                style = list(panel.loc[panel["method"] == method, "variant"].unique()).index(variant)
                # Many bands would cover each other: draw error bars, shifted sideways so that they stay apart.
                if len(lines) > MOST_BANDS:
                    x = x + (k - (len(lines) - 1) / 2) * 0.02 * np.ptp(x)
                    bars_of(ax, x, y, method, style)
                else:
                    line_of(ax, x, y, method, style=style)
                ends.append((y[-1, 0], method, variant))

            # Labels need the final limits, and start right of the longest line, which may be a shifted one.
            right = max(line.get_xdata()[-1] for line in ax.lines)
            ax.set(title=heading(task_name(task), sampler_name(sampler)), ylim=_per_cent(cells[cells["task"] == task]))
            ax.set_xticks(panel["length"].unique())
            labels(ax, [(right, *end) for end in ends])
            ax.set_xlabel("generation length (tokens)")
            if j == 0:
                ax.set_ylabel("right answers (%)")
    return figure


def _per_cent(cells: pd.DataFrame) -> tuple[float, float]:
    """Return limits that hold all means and intervals, at most 0 to 101 %; the same where nothing was right."""
    high = cells[["strict", "strict_high"]].max(axis=None)
    return 0, 101 * min(1.0, 1.05 * high) if high > 0 else 101


def accuracy_by_setting(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy, averaged over lengths, against one setting of a grid, a panel per task and sampler.

    The x axis is the setting with most values. Each choice of the other settings is a line, or points if the values are
    not numbers. Policies without the setting, such as the base model, are dotted lines. Raises InputError if no run
    varies a setting.
    """
    mean = scores.groupby(["task", "sampler", "method", "variant", "seed"], sort=False)["strict"].mean().reset_index()

    # A variant is `key~value+key~value`. Metrics have all settings of a run, also those at the default.
    varied = list(dict.fromkeys(part.partition("~")[0] for v in scores["variant"] for part in v.split("+") if "~" in v))
    if not varied or metrics.empty:
        raise InputError("every run in the scores has the default settings: there is no setting to draw against")
    settings = metrics.groupby(["method", "variant"], sort=False)["settings"].first().map(json.loads)
    axis, values = _axis(varied, settings)
    numeric = _numeric(values)
    others = [key for key in varied if key != axis and len({str(s.get(key)) for s in settings}) > 1]

    # Policies without metrics (the base model) have no settings, hence NaN on the axis.
    chosen = [settings.get(policy) for policy in zip(mean["method"], mean["variant"], strict=True)]
    mean["at"] = [(s[axis] if numeric else values.index(s[axis])) if s and axis in s else np.nan for s in chosen]
    mean["choice"] = [", ".join(setting_name(key, s[key]) for key in others if key in s) if s else "" for s in chosen]

    figure, axes = panels(1, len(cells := list(mean.groupby(["task", "sampler"], sort=False))))
    for ax, ((task, sampler), panel) in zip(axes[0], cells, strict=True):
        ends = []
        for i, ((method, choice), line) in enumerate(panel.dropna().groupby(["method", "choice"], sort=False)):
            table = line.pivot(index="at", columns="seed", values="strict")
            x = table.index.to_numpy() if numeric else table.index.to_numpy() + 0.08 * i  # next to each other
            y = means(100 * table)
            if numeric:
                line_of(ax, x, y, method, style=i)
            else:
                bars_of(ax, x, y, method, joined=False)
            ends.append((x[-1], y[-1, 0], method, choice or "default"))

        for method, runs in panel[panel["at"].isna()].groupby("method", sort=False):
            y = 100 * runs["strict"].mean()
            ax.axhline(y, color=method_colour(method), linestyle=":", linewidth=1)
            ends.append((panel["at"].max(), y, method, "default"))
        ax.set(title=heading(task_name(task), sampler_name(sampler)), xlabel=axis.replace("_", " "), ylim=(0, 101))
        if numeric:
            ax.set_xscale("log")
            ax.set_xticks(sorted(panel["at"].dropna().unique()), minor=False)
            ax.xaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
        else:
            ax.set_xticks(range(len(values)), map(str, values))
        labels(ax, ends)
    axes[0, 0].set_ylabel("right answers (%)")
    return figure


def _axis(varied: list[str], settings: pd.Series) -> tuple[str, list[Any]]:
    """Return the setting with most values, a numeric one if several have as many, and its values."""
    # Told apart as text, because a value may be a list.
    values = {key: list({str(s[key]): s[key] for s in settings if key in s}.values()) for key in varied}
    axis = max(varied, key=lambda key: (len(values[key]), _numeric(values[key])))
    return axis, values[axis]


def _numeric(values: list[Any]) -> bool:
    """Return True if all values fit on a logarithmic axis."""
    # `type`, because isinstance takes True and False for numbers.
    return all(type(value) in (int, float) and value > 0 for value in values)


def accuracy_by_nfe(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot strict accuracy against forward passes, a row of panels per task, a column per length, a point per sampler.

    Samplers of one kind are joined and share a marker; bars are intervals.
    """
    cells = over_seeds(scores)
    tasks, lengths = list(cells["task"].unique()), list(cells["length"].unique())
    figure, axes = panels(len(tasks), len(lengths))
    kinds = dict(map(sampler_kind, cells["sampler"].unique()))
    # All panels share the x axis, from one power of two to another.
    reach = 2 ** np.floor(np.log2(cells["nfe"].min())), 2 ** np.ceil(np.log2(cells["nfe"].max()))
    for i, task in enumerate(tasks):
        for ax, length in zip(axes[i], lengths, strict=True):
            panel = cells[(cells["task"] == task) & (cells["length"] == length)]
            ends = []
            for (method, variant), line in panel.groupby(["method", "variant"], sort=False):
                for _, points in line.groupby(line["sampler"].map(lambda name: sampler_kind(name)[0]), sort=False):
                    _points(ax, points.sort_values("nfe"), method)
                last = line.loc[line["nfe"].idxmax()]
                ends.append((last["nfe"], 100 * last["strict"], method, variant))
            ax.set(title=heading(task_name(task), f"L = {length}"), xlabel="forward passes a response", xscale="log")
            ax.set(xlim=reach, ylim=_per_cent(cells[cells["task"] == task]))
            ax.xaxis.set_major_locator(LogLocator(base=2))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter("{x:g}")
            labels(ax, ends)
        axes[i, 0].set_ylabel("right answers (%)")
    handles = [Line2D([], [], color="#666666", marker=marker, label=kind) for kind, marker in kinds.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _points(ax: Axes, points: pd.DataFrame, method: str) -> None:
    """Draw samplers of one kind as joined points with error bars."""
    y, low, high = (100 * points[name].to_numpy() for name in ("strict", "strict_low", "strict_high"))
    marker = sampler_kind(points["sampler"].iloc[0])[1]
    colour = method_colour(method)
    ax.errorbar(points["nfe"], y, (y - low, high - y), fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.35)
    ax.plot(points["nfe"], y, color=colour, marker=marker, markersize=5, linewidth=1.2)


def threshold_by_difficulty(scores: pd.DataFrame, metrics: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Plot the mean threshold γ of an adaptive sampler against the difficulty of the prompt, a panel per task."""
    # Other samplers choose no threshold.
    samples = samples.dropna(subset="gamma")
    tasks = list(samples["task"].unique())
    figure, axes = panels(1, len(tasks))
    for ax, task in zip(axes[0], tasks, strict=True):
        ends = []
        policies = samples[samples["task"] == task].groupby(["method", "variant"], sort=False)
        for i, ((method, variant), runs) in enumerate(policies):
            gamma = runs.pivot_table(index="difficulty", columns="seed", values="gamma")
            y = means(gamma)
            line_of(ax, gamma.index.to_numpy(), y, method, style=i)
            ends.append((gamma.index[-1], y[-1, 0], method, variant))
        ax.set(title=task_name(task), xlabel="difficulty", ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        labels(ax, ends)
    axes[0, 0].set_ylabel("threshold γ (nats)")
    return figure


def kl_per_step(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot KL(true conditional ‖ surrogate) against the denoising step, a panel per method [DiFFPO, Figure 2c]."""
    methods = list(scores.groupby(["method", "variant"], sort=False).groups)
    figure, axes = panels(1, len(methods))
    for ax, (method, variant) in zip(axes[0], methods, strict=True):
        panel = scores[(scores["method"] == method) & (scores["variant"] == variant)]
        for (surrogate, runs), style in zip(panel.groupby("surrogate", sort=False), ("--", "-"), strict=True):
            kl = runs.pivot_table(index="step", columns="seed", values="kl")
            y = means(kl)
            ax.plot(kl.index, y[:, 0], style, color=method_colour(method), label=surrogate.replace("_", " "))
            ax.fill_between(kl.index, y[:, 1], y[:, 2], color=method_colour(method), alpha=0.15, linewidth=0)
        ax.set(title=method_name(method, variant), xlabel="denoising step", ylim=(0, None))
        ax.legend(frameon=False)
    axes[0, 0].set_ylabel("KL(true ‖ surrogate), nats a token")
    return figure
