"""Numbers of tables with their intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd

Cell = dict[Any, Any]  # row of a table of scores


def of_planned(cell: Cell) -> str:
    """Say how many seeds a cell has if more are planned, else ""."""
    seeds = cell["seeds"]
    planned = cell.get("planned", seeds)
    if seeds < planned:
        return f" ({seeds} of {planned} seeds)"
    return ""


def spread(cell: Cell, name: str, scale: int, digits: int) -> str:
    """Format `scale` times a column of a cell with its interval, `70.1 ± 3.2` or `70.1 [61.2, 77.8]`."""
    mean, low, high = (scale * cell[f"{name}{end}"] for end in ("", "_low", "_high"))
    # Wilson's interval is not symmetric, so both ends are printed.
    if cell.get("interval") == "problems":
        return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"

    spread = ""
    if not pd.isna(high):
        spread = f" ± {high - mean:.{digits}f}"
    return f"{mean:.{digits}f}{spread}{of_planned(cell)}"
