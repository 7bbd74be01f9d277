"""Figures: each is a function of scores and metrics that returns a matplotlib figure.

Bands and bars are 95 % intervals over seeds. A method has the same colour in every figure and is labelled at its line.
"""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from unmask.names import method_colour, method_name, sampler_kind, sampler_name, task_name
from unmask.scores import interval, over_seeds

plt.rcParams.update({
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8, "axes.axisbelow": True, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "lines.linewidth": 1.8, "figure.dpi": 160, "savefig.bbox": "tight",
    "pdf.fonttype": 42,
})  # fmt: skip


def accuracy_by_length(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Strict accuracy against generation length; a row of panels a task, a panel a step mode."""
    cells = over_seeds(scores)
    tasks, samplers = list(cells["task"].unique()), list(cells["sampler"].unique())
    figure, axes = _panels(len(tasks), len(samplers))
    for i, task in enumerate(tasks):
        for j, sampler in enumerate(samplers):
            ax = axes[i, j]
            panel = cells[(cells["task"] == task) & (cells["sampler"] == sampler)]
            ends = []
            for (method, variant), line in panel.groupby(["method", "variant"], sort=False):
                y = 100 * line[["strict", "strict_low", "strict_high"]].to_numpy()
                _line(ax, line["length"].to_numpy(), y, method)
                ends.append((line["length"].iloc[-1], y[-1, 0], method, variant))
            top = min(1.0, 1.05 * cells[cells["task"] == task]["strict_high"].max(skipna=True))
            ax.set(title=f"{task_name(task)}, {sampler_name(sampler)}", ylim=(0, 101 * top if top == top else 101))
            ax.set_xticks(panel["length"].unique())
            _labels(ax, ends)
            ax.set_xlabel("generation length (tokens)")
            if j == 0:
                ax.set_ylabel("right answers (%)")
    return figure


def training_curves(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Mean reward of the rollouts against gradient updates; a panel a task. Demonstrations (SFT) are no rollouts.

    Each run is smoothed by its mean over the last eighth of the updates: a buffer has few prompts.
    """
    metrics = metrics[metrics["nfe"] > 0]
    tasks = list(metrics["task"].unique())
    figure, axes = _panels(1, len(tasks))
    for ax, task in zip(axes[0], tasks, strict=True):
        ends = []
        for (method, variant), runs in metrics[metrics["task"] == task].groupby(["method", "variant"], sort=False):
            reward = runs.pivot(index="step", columns="seed", values="reward")
            smooth = reward.rolling(max(1, len(reward) // 8), min_periods=1).mean()
            y = np.array([interval(row) for row in smooth.to_numpy()])
            _line(ax, smooth.index.to_numpy(), y, method, marker="")
            ends.append((smooth.index[-1], y[-1, 0], method, variant))
        ax.set(title=task_name(task), xlabel="gradient updates", ylim=(0, None))
        _labels(ax, ends)
    axes[0, 0].set_ylabel("mean reward of rollouts")
    return figure


def accuracy_by_nfe(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Strict accuracy against forward passes; a row of panels a task, a panel a length, a point a sampler.

    Samplers of one kind are joined and have one marker; bars are the intervals.
    """
    cells = over_seeds(scores)
    tasks, lengths = list(cells["task"].unique()), list(cells["length"].unique())
    figure, axes = _panels(len(tasks), len(lengths))
    kinds = dict(map(sampler_kind, cells["sampler"].unique()))
    for i, task in enumerate(tasks):
        for ax, length in zip(axes[i], lengths, strict=True):
            panel = cells[(cells["task"] == task) & (cells["length"] == length)]
            ends = []
            for (method, variant), line in panel.groupby(["method", "variant"], sort=False):
                for _, points in line.groupby(line["sampler"].map(lambda name: sampler_kind(name)[0]), sort=False):
                    _points(ax, points.sort_values("nfe"), method)
                last = line.loc[line["nfe"].idxmax()]
                ends.append((last["nfe"], 100 * last["strict"], method, variant))
            ax.set(title=f"{task_name(task)}, L = {length}", xlabel="forward passes a response", xscale="log")
            ax.set_ylim(0, 101)
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_minor_locator(NullLocator())
            ax.xaxis.set_major_formatter("{x:g}")
            _labels(ax, ends)
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
    figure, axes = _panels(1, len(tasks))
    for ax, task in zip(axes[0], tasks, strict=True):
        ends = []
        for (method, variant), runs in samples[samples["task"] == task].groupby(["method", "variant"], sort=False):
            gamma = runs.pivot_table(index="difficulty", columns="seed", values="gamma")
            y = np.array([interval(row) for row in gamma.to_numpy()])
            _line(ax, gamma.index.to_numpy(), y, method)
            ends.append((gamma.index[-1], y[-1, 0], method, variant))
        ax.set(title=task_name(task), xlabel="difficulty", ylim=(0, None))
        _labels(ax, ends)
    axes[0, 0].set_ylabel("threshold γ (nats)")
    return figure


def kl_per_step(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """KL(true conditional ‖ surrogate) against the denoising step; a panel a method [DiFFPO, Figure 2c]."""
    methods = list(scores.groupby(["method", "variant"], sort=False).groups)
    figure, axes = _panels(1, len(methods))
    for ax, (method, variant) in zip(axes[0], methods, strict=True):
        panel = scores[(scores["method"] == method) & (scores["variant"] == variant)]
        for (surrogate, runs), style in zip(panel.groupby("surrogate", sort=False), ("--", "-"), strict=True):
            kl = runs.pivot_table(index="step", columns="seed", values="kl")
            y = np.array([interval(row) for row in kl.to_numpy()])
            ax.plot(kl.index, y[:, 0], style, color=method_colour(method), label=surrogate.replace("_", " "))
            ax.fill_between(kl.index, y[:, 1], y[:, 2], color=method_colour(method), alpha=0.15, linewidth=0)
        ax.set(title=method_name(method, variant), xlabel="denoising step", ylim=(0, None))
        ax.legend(frameon=False)
    axes[0, 0].set_ylabel("KL(true ‖ surrogate), nats a token")
    return figure


FIGURES = {
    f.__name__: f for f in (accuracy_by_length, training_curves, accuracy_by_nfe, threshold_by_difficulty, kl_per_step)
}


def _panels(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    return plt.subplots(
        rows, columns, figsize=(3.9 * columns + 0.6, 2.9 * rows), squeeze=False, layout="constrained", sharey="row"
    )


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, method: str, marker: str = "o") -> None:
    """A line of means y[:, 0] with its band from y[:, 1] to y[:, 2]."""
    colour = method_colour(method)
    ax.plot(x, y[:, 0], color=colour, marker=marker, markersize=4)
    ax.fill_between(x, y[:, 1], y[:, 2], color=colour, alpha=0.15, linewidth=0)


def _labels(ax: Axes, ends: Iterable[tuple[float, float, str, str]]) -> None:
    """Names at the right ends of the lines, moved apart until they do not overlap; call it when limits are set."""
    ends = sorted(ends, key=lambda end: end[1])
    low, high = ax.get_ylim()
    gap = 0.08 * (high - low)
    heights: list[float] = []
    for _, y, _, _ in ends:
        heights.append(max(y, heights[-1] + gap) if heights else y)
    for i in reversed(range(len(heights))):  # not above the panel
        heights[i] = min(heights[i], heights[i + 1] - gap if i + 1 < len(heights) else high)
    for (x, _, method, variant), height in zip(ends, heights, strict=True):
        ax.annotate(
            method_name(method, variant), (x, height), xytext=(6, 0), textcoords="offset points",
            va="center", color=method_colour(method), fontsize=8.5, annotation_clip=False,
        )  # fmt: skip
