"""Learning speed: mean validation accuracy over training, at equal responses and at equal computing.

The mean over all evaluations of a run is high for a method that learns early and keeps what it has learnt. Methods
generate the same number of responses for it, but differ in computing. So it is also taken up to the FLOPs that the
cheapest run of a seed needs in all, with those of rollouts and validation.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from unmask.analysis.statistics import Estimate, over_seeds
from unmask.common.catalogue import task_name
from unmask.methods import method_name

POLICY = ["method", "variant"]


def evaluations(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of training metrics with a validation accuracy; none if no run was validated."""
    if "validation" not in metrics:
        return metrics.iloc[:0]
    return metrics[metrics["validation"].notna()]


def at_equal_flops(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each seed up to the FLOPs that its cheapest run needs in all."""
    most = metrics.groupby([*POLICY, "seed"])["flops"].max()
    limit = most.groupby("seed").min()
    return metrics[metrics["flops"] <= metrics["seed"].map(limit)]


def markdown(metrics: pd.DataFrame) -> str:
    """Render a section with a table per task; empty if no run was validated."""
    measured = evaluations(metrics)
    parts = []
    for task, rows in measured.groupby("task", sort=False):
        # All rows: a run needs FLOPs after its last evaluation, too.
        budget = at_equal_flops(metrics[metrics["task"] == task])
        table = _table(rows, evaluations(budget))
        parts.append(f"### {task_name(task)}\n\n{table.to_markdown(index=False, disable_numparse=True)}")
    if not parts:
        return ""
    how = (
        "Validation accuracy (%), decoded as a run decodes its rollouts and averaged over training, with its 95 % "
        "interval over seeds (Student's t); differences are paired by seed. Equal responses: over the whole of "
        "training. Equal computing: in each seed, up to the FLOPs of its cheapest run."
    )
    return "\n\n".join(["## Learning speed", how, *parts]) + "\n"


def _table(responses: pd.DataFrame, computing: pd.DataFrame) -> pd.DataFrame:
    """Return a row per policy: both means, and the difference of each to the first policy, or to DMPO."""
    policies = list(responses[POLICY].drop_duplicates().itertuples(index=False, name=None))
    reference = ("dmpo", "default") if ("dmpo", "default") in policies else policies[0]
    columns = {"equal responses": responses, "equal computing": computing}
    by_seed = {name: rows.groupby([*POLICY, "seed"])["validation"].mean() for name, rows in columns.items()}

    lines = []
    for policy in policies:
        line = {"Method": method_name(*policy)}
        for name, found in by_seed.items():
            # A policy that is never evaluated within the budget has no mean there.
            own = found.get(policy, pd.Series(dtype=float))
            line[name.capitalize()] = _text(own)
            if policy != reference:
                line[f"{method_name(*reference)} − it, {name}"] = _text(_difference(found, reference, policy), "+")
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


def _difference(found: pd.Series, first: tuple[str, str], second: tuple[str, str]) -> pd.Series:
    empty = pd.Series(dtype=float)
    return (found.get(first, empty) - found.get(second, empty)).dropna()


def _text(values: Sequence[float] | pd.Series, sign: str = "") -> str:
    """Format the mean with its interval: `61.2 [58.0, 64.4]`."""
    if len(values) == 0:
        return "–"
    estimate: Estimate = over_seeds(pd.Series(values).to_numpy(dtype=float))
    mean = f"{100 * estimate.mean:{sign}z.1f}"
    if len(values) == 1:
        return mean
    low, high = estimate.interval()
    return f"{mean} [{100 * low:{sign}z.1f}, {100 * high:{sign}z.1f}]"
