"""Curves of the run browser: every column that a run logs, against its updates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

POINTS = 100  # at most, in a curve
# Columns that count up or are logged at a few updates only: a moving average would shift the first and blur the second.
UNSMOOTHED = ("flops", "validation", "validation_strict")


@dataclass(frozen=True)
class Curve:
    """Values of one column at some updates, both in the order of the updates."""

    steps: list[int]
    values: list[float]  # rounded to four digits


def sampled(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the updates on rollouts; those of SFT, on demonstrations, have no forward passes."""
    return metrics[metrics["nfe"] > 0]


def smoothed(values: pd.Series) -> pd.Series:
    """Average over the last eighth of the updates, as in the figures, because a buffer has few prompts."""
    updates = max(1, len(values) // 8)
    return values.rolling(updates, min_periods=1).mean()


def curves(metrics: pd.DataFrame) -> dict[str, Curve]:
    """Return the curve of every column of metrics.csv that has a value, in the order of the columns.

    `metrics` has the columns of the file alone: `step`, the updates from 1 on, and numbers.
    """
    found = {}
    for column in metrics.columns.drop("step"):
        one = curve(metrics, str(column))
        if one:
            found[str(column)] = one
    return found


def curve(metrics: pd.DataFrame, column: str) -> Curve | None:
    """Return a column of the metrics against updates, at most POINTS of them; None if it has no values."""
    # Infinite values, such as the ratio of a fully clipped update, have no place on an axis.
    known = metrics[["step", column]].replace([np.inf, -np.inf], np.nan).dropna()
    if known.empty:
        return None

    values = known[column].astype(float)
    if column not in UNSMOOTHED:
        values = smoothed(values)
    # Thinned out, since the page holds the curves of all runs. The last value is kept: it is the one that is named.
    every = math.ceil(len(known) / POINTS)
    kept = slice((len(known) - 1) % every, None, every)
    steps = [int(step) for step in known["step"].iloc[kept]]
    numbers = [float(f"{value:.4g}") for value in values.iloc[kept]]
    return Curve(steps, numbers)
