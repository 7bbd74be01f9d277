"""Figures of single decoding steps: thresholds of adaptive samplers, and gaps of likelihood surrogates."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unmask.analysis.figures.style import end_of, labels, line_of, means, panels
from unmask.analysis.frames import by_policy, distinct, select
from unmask.common.catalogue import task_name
from unmask.methods import method_colour, method_name


def threshold_by_difficulty(scores: pd.DataFrame, metrics: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Plot the mean threshold γ of an adaptive sampler against the difficulty of the prompt, a panel per task."""
    # Other samplers choose no threshold.
    samples = samples.dropna(subset="gamma")
    tasks = distinct(samples, "task")
    figure, axes = panels(1, len(tasks))
    for ax, task in zip(axes[0], tasks, strict=True):
        ends = []
        policies = by_policy(select(samples, task=task))
        for number, (method, variant, runs) in enumerate(policies):
            gamma = runs.pivot_table(index="difficulty", columns="seed", values="gamma")
            x = gamma.index.to_numpy()
            y = means(gamma)
            line_of(ax, x, y, method, style=number)
            ends.append(end_of(x, y, method, variant))
        ax.set(title=task_name(task), xlabel="difficulty", ylim=(0, None))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        labels(ax, ends)
    axes[0, 0].set_ylabel("threshold γ (nats)")
    return figure


def kl_per_step(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot KL(true conditional ‖ surrogate) against the denoising step, a panel per method [DiFFPO, Figure 2c]."""
    policies = list(by_policy(scores))
    figure, axes = panels(1, len(policies))
    for ax, (method, variant, panel) in zip(axes[0], policies, strict=True):
        colour = method_colour(method)
        surrogates = panel.groupby("surrogate", sort=False)
        for (surrogate, runs), style in zip(surrogates, ("--", "-"), strict=True):
            kl = runs.pivot_table(index="step", columns="seed", values="kl")
            mean, low, high = means(kl).T
            name = surrogate.replace("_", " ")
            ax.plot(kl.index, mean, style, color=colour, label=name)
            ax.fill_between(kl.index, low, high, color=colour, alpha=0.15, linewidth=0)
        title = method_name(method, variant)
        ax.set(title=title, xlabel="denoising step", ylim=(0, None))
        ax.legend(frameon=False)
    axes[0, 0].set_ylabel("KL(true ‖ surrogate), nats a token")
    return figure
