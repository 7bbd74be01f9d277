"""Figure of the experiment `surrogates`: exact errors against distance, and against forward passes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unmask.analysis.figures.looks import MARKERS, PALETTE
from unmask.analysis.figures.style import plt
from unmask.analysis.frames import select
from unmask.analysis.scores import interval
from unmask.analysis.surrogates import LABELS, middle, of_target

# Of the first panel: a surrogate of each kind, with the forward passes that methods spend on it.
FOLLOWED = {
    "mean_field": 1,
    "coupled": 3,
    "two_stage": 2,
    "elbo_antithetic": 4,
    "elbo_quadrature": 2,
    "lower_bound": 2,
    "trajectory": 4,
}


def surrogates(errors: pd.DataFrame) -> Figure:
    """Plot correlation against distance, and the error of ELBOs and of trajectory surrogates against forward passes.

    Means over seeds with 95 % intervals; log-ratios along the gradient of the expected reward.
    """
    figure, (left, centre, right) = plt.subplots(1, 3, figsize=(13.2, 3.8), layout="constrained")
    responses = of_target(errors, "response")
    for place, (name, forwards) in enumerate(FOLLOWED.items()):
        rows = select(responses, surrogate=name, forwards=forwards)
        # With other lengths or blocks, a surrogate may take another number of passes.
        if len(rows):
            _line(left, rows, "kl", "correlation", f"{LABELS[name]} ({forwards})", place)
    left.set(xscale="log", xlabel="KL(old ‖ new) in nats", ylabel="correlation", title="Log-ratio of a response")
    left.set_ylim(bottom=min(0, left.get_ylim()[0]))  # room for the legend

    elbos = of_target(errors, "elbo")
    _families(centre, elbos, "mse")
    centre.set(yscale="log", xlabel="forward passes", ylabel="mean squared error", title="ELBO of one policy")

    path = select(of_target(errors, "path"), kl=middle(errors))
    _families(right, path, "relative")
    right.set(xlabel="forward passes", ylabel="error / SD of the true value", title="Log-ratio on the sampler's order")
    for ax in (centre, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (left, centre, right):
        ax.legend(fontsize=8, frameon=False)
    return figure


def _families(ax: Axes, rows: pd.DataFrame, measure: str) -> None:
    """Draw one line for each family of surrogates that has several numbers of forward passes."""
    several = [name for name in LABELS if select(rows, surrogate=name)["forwards"].nunique() > 1]
    for place, name in enumerate(several):
        _line(ax, select(rows, surrogate=name), "forwards", measure, LABELS[name], place)


def _line(ax: Axes, rows: pd.DataFrame, along: str, measure: str, label: str, place: int) -> None:
    """Draw the mean over seeds with its interval against a column."""
    found = [(x, *interval(group[measure].to_numpy())) for x, group in rows.groupby(along)]
    x, mean, low, high = np.array(found, dtype=float).T
    color, marker, spread = PALETTE[place], MARKERS[place], np.stack((mean - low, high - mean))
    ax.errorbar(x, mean, yerr=spread, label=label, capsize=2, elinewidth=0.8, color=color, marker=marker, markersize=4)
