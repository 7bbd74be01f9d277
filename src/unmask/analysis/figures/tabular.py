"""Figure and table of the exact toy: distance of each method from p*, over updates and at the end."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.drawing import beyond, line_of, means, no_ticks_beyond, seeds_of
from unmask.analysis.figures.looks import Line
from unmask.analysis.figures.style import finish, handles_of, plt
from unmask.analysis.frames import distinct, select
from unmask.analysis.scores import interval
from unmask.methods import Look, method_look, method_name

# Curve -> its line. DMPO at its default baseline and coupled-GRPO look as in all figures.
CURVES = {
    "none": Line("DMPO (no baseline)", Look("", "#AA77FF", "v", "dashed")),
    "group": Line("DMPO (group baseline)", method_look("dmpo")),
    "model": Line("DMPO (model baseline)", Look("", "#009988", "s", "long-dashed")),
    "elbo": Line("DMPO (group baseline, ELBO)", Look("", "#BB8833", "o", "dotted")),
    "individual": Line("DMPO (individual baseline)", Look("", "#990055", "X", "dash-dotted")),
    "wddo": Line("DMPO (WDDO)", Look("", "#442200", "^", "sparsely dotted")),
    "coupled_grpo": Line(method_name("coupled_grpo"), method_look("coupled_grpo")),
}
# Column -> (title, axis limits)
MEASURES = {
    "kl": ("KL(p* ‖ p) in nats", (0.03, 6)),
    "modes": ("Modes with at least half of p*", (0, 1.02)),
    "entropy": ("Entropy in nats", (0, 4.6)),
}
TABLE = {"kl": r"KL(p* to p)", "modes": "Modes", "entropy": "Entropy", "reward": "Reward"}


def exact_toy(curves: pd.DataFrame) -> Figure:
    """Plot means over seeds with 95 % bands, a row of panels per group size, a panel per measure.

    The last value of each seed is a point right of the curves. Means and intervals are those of the table, also on the
    logarithmic axis of the divergence.
    """
    sizes = sorted(distinct(curves, "group_size"))
    figure, axes = plt.subplots(
        len(sizes),
        len(MEASURES),
        figsize=(12.4, 2.9 * len(sizes)),
        layout="constrained",
        squeeze=False,
        sharex=True,
    )
    for size, row in zip(sizes, axes, strict=True):
        of_size = select(curves, group_size=size)
        for ax, (measure, (title, limits)) in zip(row, MEASURES.items(), strict=True):
            scale = "log" if measure == "kl" else "linear"
            ax.set(ylim=limits, yscale=scale)
            _panel(ax, of_size, measure)
            if size == sizes[0]:
                ax.set_title(title)
        row[0].set_ylabel(f"groups of {size}", fontweight="bold")
    for ax in axes[-1]:
        ax.set_xlabel("gradient updates")
    handles = handles_of(CURVES[name] for name in _present(curves))
    counts = f"{_seeds(curves)} seeds; every response is enumerated, so that only training is random."
    return finish(figure, handles, counts)


def _seeds(curves: pd.DataFrame) -> int:
    """Return the number of seeds of a curve; they all have the same."""
    return int(curves["seed"].nunique())


def _panel(ax: Axes, curves: pd.DataFrame, measure: str) -> None:
    """Draw a measure of all curves of one group size."""
    names = _present(curves)
    tables = {}
    for number, name in enumerate(names):
        runs = select(curves, curve=name)
        tables[name] = runs.pivot(index="update", columns="seed", values=measure)
        # Clipped, because an interval of few seeds may reach far beyond the axis.
        y = means(tables[name])
        y[:, 1:] = np.clip(y[:, 1:], *ax.get_ylim())
        line_of(ax, tables[name].index.to_numpy(), y, CURVES[name].look, number)

    places = [beyond(ax, number) for number in range(len(names))]
    for place, name in zip(places, names, strict=True):
        seeds_of(ax, np.array([place]), tables[name].iloc[[-1]], CURVES[name].look)
    no_ticks_beyond(ax)
    if measure == "kl":
        ax.set_yticks([0.1, 1], ["0.1", "1"])
    if measure == "entropy":
        _goal(ax, curves["entropy_target"].mean())


def table(curves: pd.DataFrame) -> pd.DataFrame:
    """Format the last update, one row per group size and curve: mean ± half of the 95 % interval over seeds."""
    last = select(curves, update=curves["update"].max())
    names = _present(last)
    rows = []
    for size, of_size in last.groupby("group_size"):
        for name in names:
            runs = select(of_size, curve=name)
            row = {"G": str(size), "Method": CURVES[name].name}
            for column, label in TABLE.items():
                mean, _, high = interval(runs[column].to_numpy())
                half = high - mean
                row[label] = f"{mean:.2f} ± {half:.2f}"
            rows.append(row)
    return pd.DataFrame(rows)


def _present(curves: pd.DataFrame) -> list[str]:
    """Return the curves present, in the order of CURVES. Raises ValueError for a curve that is not listed there."""
    order = list(CURVES)
    return sorted(distinct(curves, "curve"), key=order.index)


def _goal(ax: Axes, height: float) -> None:
    """Mark the value of p*."""
    ax.axhline(height, color="#444444", linewidth=0.9, linestyle=":")
    ax.annotate("p*", (0, height), xytext=(2, 3), textcoords="offset points", fontsize=8)
