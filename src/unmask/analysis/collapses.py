"""Collapsed runs: how many training runs of each policy collapsed, and the causes of all alarms. Torch-free."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from unmask.analysis.metric_names import COLLAPSED, COLLAPSED_TIME
from unmask.common.alarms import MEANINGS, OUTCOMES, Cause, name_of
from unmask.common.catalogue import task_name
from unmask.methods import method_name

POLICY = ["task", "method", "variant"]


def with_collapses(metrics: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `collapsed` and `collapsed_time` to metrics; a mean of the second says how early runs collapse.

    A run collapses if the alarm has a cause that is seen in its responses. Causes about weights do not count: some
    methods have none. It does so at the update from which on its reward or accuracy is lower, not at that of the alarm,
    which compares two windows and so is never raised before the second one ends. Runs of older code have NaN.
    """
    if "alarm" not in metrics:
        return metrics.assign(**{COLLAPSED: float("nan"), COLLAPSED_TIME: float("nan")})
    runs = metrics.sort_values("step", kind="stable").groupby([*POLICY, "seed"], sort=False)
    return pd.concat([_with_collapse(rows) for _, rows in runs]).sort_index()


def _with_collapse(rows: pd.DataFrame) -> pd.DataFrame:
    """Add both columns to the rows of one run, in the order of updates."""
    if rows["alarm"].isna().any():
        return rows.assign(**{COLLAPSED: float("nan"), COLLAPSED_TIME: float("nan")})
    alarms = rows["alarm"].astype(int).to_numpy()
    raised = (alarms & int(OUTCOMES)) > 0
    if not raised.any():
        return rows.assign(**{COLLAPSED: 0.0, COLLAPSED_TIME: 0.0})

    # The cause of the first alarm says what fell. A trap of partial credit has no fall, so it begins with its alarm.
    start = int(raised.argmax())
    if alarms[start] & Cause.REWARD_FELL:
        start = min(start, fall(rows["reward"].to_numpy(dtype=float)))
    elif alarms[start] & Cause.ACCURACY_FELL:
        start = min(start, fall(rows["accuracy"].to_numpy(dtype=float)))
    since = (np.arange(len(rows)) >= start).astype(float)
    return rows.assign(**{COLLAPSED: 1.0, COLLAPSED_TIME: since})


def fall(values: NDArray[np.float64]) -> int:
    """Return the first index after a fall: two constants, the second one lower, fit best if they meet there.

    The sum of squared errors is least where n₁n₂(m₁ − m₂)² is largest, with sizes n and means m of both parts. Values
    that never have a lower part return their number.
    """
    if len(values) < 2:
        return len(values)
    first = np.arange(1, len(values))
    second = len(values) - first
    sums = np.cumsum(values)
    lost = sums[:-1] / first - (sums[-1] - sums[:-1]) / second
    gained = np.where(lost > 0, first * second * lost**2, 0.0)
    return int(gained.argmax()) + 1 if gained.any() else len(values)


def first_alarms(metrics: pd.DataFrame) -> dict[Cause, int]:
    """Return the first update of a run at which each cause was there, in the order of updates.

    Empty if there was none, also for metrics of older code, which have no column `alarm`.
    """
    found: dict[Cause, int] = {}
    if "alarm" not in metrics:
        return found
    raised = metrics[metrics["alarm"] > 0]
    for step, number in zip(raised["step"], raised["alarm"], strict=True):
        for cause in Cause(int(number)):
            found.setdefault(cause, int(step))
    return found


def mark(metrics: pd.DataFrame) -> str:
    """Format the alarms of one run: `length from update 40, clipped from update 64`; "" for none."""
    return ", ".join(f"{name_of(cause)} from update {step}" for cause, step in first_alarms(metrics).items())


def markdown(metrics: pd.DataFrame) -> str:
    """Render a section with a row per policy, or one line if no run had an alarm; empty for metrics of older code."""
    if "alarm" not in metrics:
        return ""
    watched = metrics.dropna(subset="alarm")
    lines = []
    for (task, method, variant), rows in watched.groupby(POLICY, sort=False):
        runs = [first_alarms(run) for _, run in rows.groupby("seed")]
        collapsed = [run for run in runs if any(cause & OUTCOMES for cause in run)]
        lines.append(
            {
                "Task": task_name(task),
                "Method": method_name(method, variant),
                "Runs": f"{len(collapsed)} of {len(runs)}",
                "Share (%)": _share(len(collapsed), len(runs)),
                "Seen in the responses": _causes(runs, OUTCOMES),
                "Other alarms": _causes(runs, ~OUTCOMES),
            }
        )

    title = "## Collapsed runs"
    if not any(line["Seen in the responses"] or line["Other alarms"] for line in lines):
        runs = watched.groupby([*POLICY, "seed"]).ngroups
        return f"{title}\n\nNone of {runs} training runs raised the collapse alarm.\n"
    table = pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
    how = (
        "A run has collapsed if at some update the alarm has a cause that is seen in its responses; the share has a "
        "95 % interval (Clopper–Pearson). Other alarms are about weights and clips: they warn, and some methods have "
        "them by design. Numbers are runs with each cause."
    )
    meanings = pd.DataFrame([{"Cause": name_of(cause), "Meaning": text} for cause, text in MEANINGS.items()])
    explained = meanings.to_markdown(index=False, disable_numparse=True)
    return f"{title}\n\n{how}\n\n{table}\n\n{explained}\n"


def _share(count: int, runs: int) -> str:
    """Format a share with its exact binomial interval: `30 [7, 65]`."""
    low, high = stats.binomtest(count, runs).proportion_ci(method="exact")
    return f"{100 * count / runs:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def _causes(runs: list[dict[Cause, int]], counted: Cause) -> str:
    """Format how many runs had each of the counted causes: `reward fell 2, length 1`."""
    counts = Counter(cause for run in runs for cause in run)
    return ", ".join(f"{name_of(cause)} {counts[cause]}" for cause in Cause if cause & counted and counts[cause])
