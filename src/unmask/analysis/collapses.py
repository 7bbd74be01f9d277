"""Collapsed runs: how many training runs of each policy raised the collapse alarm, and for which causes. Torch-free."""

from __future__ import annotations

from collections import Counter

import pandas as pd
from scipy import stats

from unmask.common.alarms import MEANINGS, OUTCOMES, Cause, name_of
from unmask.common.catalogue import task_name
from unmask.methods import method_name

POLICY = ["task", "method", "variant"]
# Columns of `with_collapses`: 1 in all rows of a run that collapsed; 1 from the update on at which it did.
COLLAPSED = "collapsed"
COLLAPSED_TIME = "collapsed_time"


def with_collapses(metrics: pd.DataFrame) -> pd.DataFrame:
    """Add the columns `collapsed` and `collapsed_time` to metrics; a mean of the second says how early runs collapse.

    A run collapses at the first update at which the alarm has a cause that is seen in its responses. Causes about
    weights do not count: some methods have none. Runs of older code, without alarms, have NaN.
    """
    if "alarm" not in metrics:
        return metrics.assign(**{COLLAPSED: float("nan"), COLLAPSED_TIME: float("nan")})
    ordered = metrics.sort_values("step", kind="stable")
    seen = (ordered["alarm"].fillna(0).astype(int) & int(OUTCOMES)) > 0
    runs = [ordered[name] for name in (*POLICY, "seed")]
    known = ordered["alarm"].notna()
    time = seen.astype(float).groupby(runs).cummax().where(known)
    run = seen.astype(float).groupby(runs).transform("max").where(known)
    return ordered.assign(**{COLLAPSED: run, COLLAPSED_TIME: time}).sort_index()


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
        collapsed = [run for run in runs if run]
        lines.append(
            {
                "Task": task_name(task),
                "Method": method_name(method, variant),
                "Runs": f"{len(collapsed)} of {len(runs)}",
                "Share (%)": _share(len(collapsed), len(runs)),
                "Causes": _causes(collapsed),
            }
        )

    title = "## Collapsed runs"
    if not any(line["Causes"] for line in lines):
        runs = watched.groupby([*POLICY, "seed"]).ngroups
        return f"{title}\n\nNone of {runs} training runs raised the collapse alarm.\n"
    table = pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
    how = (
        "Training runs that raised the collapse alarm at some update, with the 95 % interval of the share "
        "(Clopper–Pearson), and how many of them by each cause."
    )
    meanings = pd.DataFrame([{"Cause": name_of(cause), "Meaning": text} for cause, text in MEANINGS.items()])
    explained = meanings.to_markdown(index=False, disable_numparse=True)
    return f"{title}\n\n{how}\n\n{table}\n\n{explained}\n"


def _share(count: int, runs: int) -> str:
    """Format a share with its exact binomial interval: `30 [7, 65]`."""
    low, high = stats.binomtest(count, runs).proportion_ci(method="exact")
    return f"{100 * count / runs:.0f} [{100 * low:.0f}, {100 * high:.0f}]"


def _causes(collapsed: list[dict[Cause, int]]) -> str:
    """Format how many runs had each cause: `length 1, clipped 2`."""
    counts = Counter(cause for run in collapsed for cause in run)
    return ", ".join(f"{name_of(cause)} {counts[cause]}" for cause in Cause if counts[cause])
