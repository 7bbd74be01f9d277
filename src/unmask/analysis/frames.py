"""Selecting and grouping the rows of samples, scores and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd


def select(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the rows that have these values in the columns of the same name."""
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def distinct(frame: pd.DataFrame, column: str) -> list[Any]:
    """Return the values of a column, each once, in order of first appearance."""
    return list(frame[column].unique())


def by_policy(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield method, variant and rows of each policy, in order of first appearance."""
    for (method, variant), rows in frame.groupby(["method", "variant"], sort=False):
        yield method, variant, rows
