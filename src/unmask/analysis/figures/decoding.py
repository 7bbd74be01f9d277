"""Figures of single decoding steps: thresholds of adaptive samplers, and gaps of likelihood surrogates."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unmask.analysis.figures.counts import of_gaps, of_samples
from unmask.analysis.figures.drawing import ASIDE, line_of, means, points_of, seeds_of, side_by_side
from unmask.analysis.figures.looks import Line, lines_of
from unmask.analysis.figures.style import finish, handles_of, panels
from unmask.analysis.frames import by_policy, distinct, select
from unmask.common.catalogue import task_name
from unmask.methods import Look

# Surrogate -> its line. Its colour is not that of a method, which is the title of the panel.
SURROGATES = {
    "mean_field": Line("mean field", Look("mean field", "#BB8833", "s", "dashed")),
    "two_stage": Line("two stages", Look("two stages", "#1155BB", "o", "solid")),
}


def threshold_by_difficulty(scores: pd.DataFrame, metrics: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Plot the mean threshold γ of an adaptive sampler against the difficulty of the prompt, a panel per task."""
    # Other samplers choose no threshold.
    samples = samples.dropna(subset="gamma")
    lines = lines_of(samples, metrics)
    tasks = distinct(samples, "task")
    figure, axes = panels(1, len(tasks))
    for ax, task in zip(axes[0], tasks, strict=True):
        of_task = select(samples, task=task)
        policies = list(by_policy(of_task))
        shifts = side_by_side(of_task["difficulty"], len(policies))
        for (method, variant, runs), shift in zip(policies, shifts, strict=True):
            gamma = runs.pivot_table(index="difficulty", columns="seed", values="gamma")
            x = gamma.index.to_numpy() + shift
            look = lines[method, variant].look
            points_of(ax, x, means(gamma), look)
            if gamma.shape[1] > 1:
                seeds_of(ax, x, gamma, look, ASIDE)
        ax.set(title=task_name(task), xlabel="difficulty")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    # After all panels, which share the axis: a limit ends its scaling.
    axes[0, 0].set(ylabel="threshold γ (nats)", ylim=(0, None))
    return finish(figure, handles_of(lines.values()), of_samples(samples))


def kl_per_step(scores: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot KL(true conditional ‖ surrogate) against the denoising step, a panel per method [DiFFPO, Figure 2c]."""
    policies = list(by_policy(scores))
    names = lines_of(scores, metrics)
    figure, axes = panels(1, len(policies))
    for ax, (method, variant, panel) in zip(axes[0], policies, strict=True):
        for number, (surrogate, line) in enumerate(SURROGATES.items()):
            runs = select(panel, surrogate=surrogate)
            kl = runs.pivot_table(index="step", columns="seed", values="kl")
            steps = kl.index.to_numpy()
            line_of(ax, steps, means(kl), line.look, number)
            if kl.shape[1] > 1:
                seeds_of(ax, steps, kl, line.look)
        ax.set(title=names[method, variant].name, xlabel="denoising step")
    axes[0, 0].set(ylabel="KL(true ‖ surrogate), nats per token", ylim=(0, None))
    return finish(figure, handles_of(SURROGATES.values()), of_gaps(scores))
