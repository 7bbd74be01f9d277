"""Figure and table of the exact toy: distance of each method from p*, over updates and at the end."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.style import plt
from unmask.analysis.scores import interval
from unmask.common.catalogue import METHODS

# Curve -> (label, colour, line style). DMPO's kinds are shades of its blue, except for the baseline that diverges.
CURVES = {
    "none": ("DMPO, no baseline", "#7F97AA", "-"),
    "group": ("DMPO, group", METHODS["dmpo"][1], "-"),
    "model": ("DMPO, model", METHODS["dmpo"][1], (0, (4, 1.5))),
    "elbo": ("DMPO, group (ELBO)", METHODS["dmpo"][1], ":"),
    "individual": ("DMPO, individual", "#882255", "-"),
    "wddo": ("WDDO", "#56B4E9", "-"),
    "coupled_grpo": METHODS["coupled_grpo"] + ("-",),
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

    The divergence has a logarithmic axis and is averaged in logarithms.
    """
    sizes = sorted(curves["group_size"].unique())
    figure, axes = plt.subplots(
        len(sizes), len(MEASURES), figsize=(12.4, 2.9 * len(sizes)), layout="constrained", squeeze=False, sharex=True
    )
    for size, row in zip(sizes, axes, strict=True):
        part = curves[curves["group_size"] == size]
        for ax, (measure, (title, limits)) in zip(row, MEASURES.items(), strict=True):
            # Limits come first: labels are spread in heights of the axes.
            ax.set(ylim=limits, yscale="log" if measure == "kl" else "linear")
            _labels(ax, {name: _line(ax, part[part["curve"] == name], measure, name) for name in _present(part)})
            if measure == "kl":
                ax.set_yticks([0.1, 1], ["0.1", "1"])
            if measure == "entropy":
                _goal(ax, part["entropy_target"].mean())
            ax.set_title(title if size == sizes[0] else "")
        row[0].set_ylabel(f"groups of {size}", fontweight="bold")
    for ax in axes[-1]:
        ax.set_xlabel("gradient updates")
    return figure


def table(curves: pd.DataFrame) -> pd.DataFrame:
    """Format the last update, one row per group size and curve: mean ± half of the 95 % interval over seeds."""
    last = curves[curves["update"] == curves["update"].max()]
    rows = []
    for size in sorted(last["group_size"].unique()):
        for name in _present(last):
            runs = last[(last["group_size"] == size) & (last["curve"] == name)]
            row = {"G": str(size), "Method": CURVES[name][0]}
            for column, label in TABLE.items():
                mean, _, high = interval(runs[column].to_numpy())
                row[label] = f"{mean:.2f} ± {high - mean:.2f}"
            rows.append(row)
    return pd.DataFrame(rows)


def _present(curves: pd.DataFrame) -> list[str]:
    """Return the curves present, in the order of CURVES. Raises ValueError for a curve that is not listed there."""
    return sorted(curves["curve"].unique(), key=list(CURVES).index)


def _goal(ax: Axes, height: float) -> None:
    """Mark the value of p*."""
    ax.axhline(height, color="#444444", linewidth=0.9, linestyle=":")
    ax.annotate("p*", (0, height), xytext=(2, 3), textcoords="offset points", fontsize=8)


def _line(ax: Axes, runs: pd.DataFrame, measure: str, name: str) -> tuple[float, float]:
    """Draw one curve with its band; return the point where it ends."""
    # On a logarithmic axis the interval is formed in logarithms, so that its lower end stays positive.
    there, back = (np.log, np.exp) if ax.get_yscale() == "log" else (np.asarray, np.asarray)
    means = runs.groupby("update")[measure].apply(lambda values: pd.Series(interval(there(values.to_numpy()))))
    by_update = means.unstack()
    x, (mean, low, high) = by_update.index.to_numpy(), back(by_update.to_numpy().T)
    _, colour, style = CURVES[name]
    ax.plot(x, mean, color=colour, linestyle=style)
    # Clipped, because an interval of few seeds may reach far beyond the axis.
    bottom, top = ax.get_ylim()
    ax.fill_between(x, np.clip(low, bottom, top), np.clip(high, bottom, top), color=colour, alpha=0.13, linewidth=0)
    return float(x[-1]), float(mean[-1])


def _labels(ax: Axes, ends: dict[str, tuple[float, float]], gap: float = 0.085) -> None:
    """Label the ends of curves, moved apart (in heights of the axes) until no labels overlap."""
    to_height = ax.transData + ax.transAxes.inverted()
    at = sorted((float(to_height.transform(end)[1]), name) for name, end in ends.items())
    heights = np.array([height for height, _ in at])
    # Push neighbours apart by equal amounts, so that a cluster stays centred on its lines.
    for _ in range(200):
        short = np.clip(gap - np.diff(heights), 0, None) / 2
        heights[:-1] -= short
        heights[1:] += short
        heights = np.clip(heights, 0.02, 0.95)
    for height, (_, name) in zip(heights, at, strict=True):
        label, colour, _ = CURVES[name]
        ax.annotate(
            label,
            (1.02, height),
            xycoords="axes fraction",
            va="center",
            color=colour,
            fontsize=8,
            annotation_clip=False,
        )
