"""Figures of scores: each is a function of scores and training metrics that returns a matplotlib figure.

Bands and bars are 95 % intervals over seeds, or over test problems for a base model that is evaluated once. A method
has the same colour in every figure and is labelled at its line.
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

from unmask.drawing import bars_of, heading, labels, line_of, means, panels
from unmask.files import InputError
from unmask.names import method_colour, method_name, sampler_kind, sampler_name, setting_name, task_name
from unmask.scores import over_seeds
from unmask.training_figures import (
    importance_ratios,
    reward_by_compute,
    rollout_entropy,
    training_curves,
    weight_distribution,
)

MOST_BANDS = 4  # lines in a panel; more of them have bars


def accuracy_by_length(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Strict accuracy against generation length; a row of panels a task, a panel a step mode."""
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
                style = list(panel.loc[panel["method"] == method, "variant"].unique()).index(variant)
                if len(lines) > MOST_BANDS:  # side by side
                    x = x + (k - (len(lines) - 1) / 2) * 0.02 * np.ptp(x)
                    bars_of(ax, x, y, method, style)
                else:
                    line_of(ax, x, y, method, style=style)
                ends.append((y[-1, 0], method, variant))
            right = max(line.get_xdata()[-1] for line in ax.lines)
            ax.set(title=heading(task_name(task), sampler_name(sampler)), ylim=_per_cent(cells[cells["task"] == task]))
            ax.set_xticks(panel["length"].unique())
            labels(ax, [(right, *end) for end in ends])
            ax.set_xlabel("generation length (tokens)")
            if j == 0:
                ax.set_ylabel("right answers (%)")
    return figure


def _per_cent(cells: pd.DataFrame) -> tuple[float, float]:
    """Limits of an axis that holds all means and intervals, up to 100 %; all of it where nothing was right."""
    high = cells[["strict", "strict_high"]].max(axis=None)
    return 0, 101 * min(1.0, 1.05 * high) if high > 0 else 101


def accuracy_by_setting(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Strict accuracy, a mean over lengths, against the setting of a grid with most values; a panel a task and sampler.

    A line for each choice of the other settings, or points where the values are no numbers; a policy that does not have
    the setting, as the base model, is a dotted line.
    """
    mean = scores.groupby(["task", "sampler", "method", "variant", "seed"], sort=False)["strict"].mean().reset_index()
    varied = list(dict.fromkeys(part.partition("~")[0] for v in scores["variant"] for part in v.split("+") if "~" in v))
    if not varied or metrics.empty:
        raise InputError("no run in the scores has another setting than the default")
    settings = metrics.groupby(["method", "variant"], sort=False)["settings"].first().map(json.loads)
    axis, values = _axis(varied, settings)
    numeric = _numeric(values)
    others = [key for key in varied if key != axis and len({str(s.get(key)) for s in settings}) > 1]
    chosen = [settings.get(policy) for policy in zip(mean["method"], mean["variant"], strict=True)]
    mean["at"] = [(s[axis] if numeric else values.index(s[axis])) if s and axis in s else np.nan for s in chosen]
    mean["choice"] = [", ".join(setting_name(key, s[key]) for key in others if key in s) if s else "" for s in chosen]
    figure, axes = panels(1, len(cells := list(mean.groupby(["task", "sampler"], sort=False))))
    for ax, ((task, sampler), panel) in zip(axes[0], cells, strict=True):
        ends = []
        for i, ((method, choice), line) in enumerate(panel.dropna().groupby(["method", "choice"], sort=False)):
            table = line.pivot(index="at", columns="seed", values="strict")
            x = table.index.to_numpy() if numeric else table.index.to_numpy() + 0.08 * i  # beside each other
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
    """The setting with most values, one with numbers where others have as many, and the values."""
    values = {key: list({str(s[key]): s[key] for s in settings if key in s}.values()) for key in varied}  # or lists
    axis = max(varied, key=lambda key: (len(values[key]), _numeric(values[key])))
    return axis, values[axis]


def _numeric(values: list[Any]) -> bool:
    """Whether they fit on a logarithmic axis."""
    return all(type(value) in (int, float) and value > 0 for value in values)


def accuracy_by_nfe(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Strict accuracy against forward passes; a row of panels a task, a panel a length, a point a sampler.

    Samplers of one kind are joined and have one marker; bars are the intervals.
    """
    cells = over_seeds(scores)
    tasks, lengths = list(cells["task"].unique()), list(cells["length"].unique())
    figure, axes = panels(len(tasks), len(lengths))
    kinds = dict(map(sampler_kind, cells["sampler"].unique()))
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
    """Samplers of one kind as joined points with bars."""
    y, low, high = (100 * points[name].to_numpy() for name in ("strict", "strict_low", "strict_high"))
    marker = sampler_kind(points["sampler"].iloc[0])[1]
    colour = method_colour(method)
    ax.errorbar(points["nfe"], y, (y - low, high - y), fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.35)
    ax.plot(points["nfe"], y, color=colour, marker=marker, markersize=5, linewidth=1.2)


def threshold_by_difficulty(scores: pd.DataFrame, metrics: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Mean threshold γ that an adaptive sampler chooses, against the difficulty of the prompt; a panel a task."""
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
    """KL(true conditional ‖ surrogate) against the denoising step; a panel a method [DiFFPO, Figure 2c]."""
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


FIGURES = {
    f.__name__: f
    for f in (
        accuracy_by_length,
        accuracy_by_setting,
        accuracy_by_nfe,
        threshold_by_difficulty,
        kl_per_step,
        training_curves,
        reward_by_compute,
        rollout_entropy,
        importance_ratios,
        weight_distribution,
    )
}
