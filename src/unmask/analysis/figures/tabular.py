"""Figure and table of the exact toy: distance of each method from p*, over updates and at the end."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unmask.analysis.figures.style import plt
from unmask.analysis.frames import distinct, select
from unmask.analysis.scores import interval
from unmask.methods import method_colour, method_name

BLUE = method_colour("dmpo")
# Curve -> (label, colour, line style). DMPO's kinds are shades of its blue, except for the baseline that diverges.
CURVES = {
    "none": ("DMPO, no baseline", "#7F97AA", "-"),
    "group": ("DMPO, group", BLUE, "-"),
    "model": ("DMPO, model", BLUE, (0, (4, 1.5))),
    "elbo": ("DMPO, group (ELBO)", BLUE, ":"),
    "individual": ("DMPO, individual", "#882255", "-"),
    "wddo": ("WDDO", "#56B4E9", "-"),
    "coupled_grpo": (method_name("coupled_grpo"), method_colour("coupled_grpo"), "-"),
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
            # Limits come first: labels are spread in heights of the axes.
            ax.set(ylim=limits, yscale=scale)
            _panel(ax, of_size, measure)
            if size == sizes[0]:
                ax.set_title(title)
        row[0].set_ylabel(f"groups of {size}", fontweight="bold")
    for ax in axes[-1]:
        ax.set_xlabel("gradient updates")
    return figure


def _panel(ax: Axes, curves: pd.DataFrame, measure: str) -> None:
    """Draw a measure of all curves of one group size, with their labels."""
    ends = {}
    for name in _present(curves):
        runs = select(curves, curve=name)
        ends[name] = _line(ax, runs, measure, name)
    _labels(ax, ends)
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
            method, _, _ = CURVES[name]
            row = {"G": str(size), "Method": method}
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


def _line(ax: Axes, runs: pd.DataFrame, measure: str, name: str) -> tuple[float, float]:
    """Draw one curve with its band; return the point where it ends."""
    logarithmic = ax.get_yscale() == "log"
    x, mean, low, high = _by_update(runs, measure, logarithmic=logarithmic)
    _, colour, style = CURVES[name]
    ax.plot(x, mean, color=colour, linestyle=style)
    # Clipped, because an interval of few seeds may reach far beyond the axis.
    bottom, top = ax.get_ylim()
    low = np.clip(low, bottom, top)
    high = np.clip(high, bottom, top)
    ax.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    return float(x[-1]), float(mean[-1])


def _by_update(runs: pd.DataFrame, measure: str, *, logarithmic: bool) -> tuple[np.ndarray, ...]:
    """Return the measured updates, and mean, low and high over seeds at each."""
    updates = []
    intervals = []
    for update, values in runs.groupby("update")[measure]:
        seeds = values.to_numpy()
        # On a logarithmic axis the interval is formed in logarithms, so that its lower end stays positive.
        if logarithmic:
            seeds = np.log(seeds)
        updates.append(update)
        intervals.append(interval(seeds))

    ends = np.array(intervals)
    if logarithmic:
        ends = np.exp(ends)
    mean, low, high = ends.T
    return np.array(updates), mean, low, high


def _labels(ax: Axes, ends: dict[str, tuple[float, float]], gap: float = 0.085) -> None:
    """Label the ends of curves, moved apart (in heights of the axes) until no labels overlap."""
    to_height = ax.transData + ax.transAxes.inverted()
    placed = []
    for name, end in ends.items():
        _, height = to_height.transform(end)
        placed.append((float(height), name))
    placed.sort()

    # Push neighbours apart by equal amounts, so that a cluster stays centred on its lines.
    heights = np.array([height for height, _ in placed])
    for _ in range(200):
        overlaps = np.clip(gap - np.diff(heights), 0, None)
        heights[:-1] -= overlaps / 2
        heights[1:] += overlaps / 2
        heights = np.clip(heights, 0.02, 0.95)

    for height, (_, name) in zip(heights, placed, strict=True):
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
