"""What choosing the checkpoint on the test set adds to the accuracy that is reported there.

A run's moments are runs of an experiment that differ in `buffers` alone: with a constant learning rate each is the
beginning of the longer ones, and it keeps its last policy if it is validated at its end only. So the test problems are
asked after training, and no training reads them. The accuracy that is reported on the test set depends on the moment:
the last one, the one with the best validation accuracy (the latest of equals, as training selects), or the one with the
best test accuracy, for each sampler and length separately. The gain is that of the third over the second. A fourth one
is chosen on one half of the test problems and reported on the other: what is left of the gain on problems that did not
choose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from unmask.analysis.frames import by_policy
from unmask.analysis.metric_names import GAIN
from unmask.analysis.statistics import over_seeds
from unmask.common.catalogue import sampler_name, task_name
from unmask.methods import method_name

GRADES = ["published", "points"]  # columns of samples that are read
RUN = ["method", "task", "variant", "seed"]
CELL = ["task", "method", "variant", "seed", "sampler", "length"]
# How the moment is chosen: column -> heading.
WAYS = {
    "last": "Last",
    "validated": "Best on validation",
    "halved": "Best on half of the test set, on the other half",
    "tested": "Best on the test set",
}
BUFFERS = re.compile(r"(?:^|\+)buffers~[^+]*")


def choices(samples: pd.DataFrame, metrics: pd.DataFrame | None) -> pd.DataFrame:
    """Return the test accuracy at the chosen moment, a row per policy, seed, sampler and length.

    Columns are those of CELL, where `variant` leaves out the number of buffers, of WAYS, and the gain. Accuracies are
    published ones, weighted by points. Empty if no policy has several moments.
    """
    empty = pd.DataFrame(columns=[*CELL, *WAYS, GAIN])
    if metrics is None or "validation" not in metrics or not has_moments(metrics):
        return empty
    found = samples.merge(_moments(metrics), on=RUN)
    found["variant"] = found["variant"].map(_without_buffers)

    # The best of fewer moments gains less: a seed that lacks some is left out.
    moments = found.groupby(CELL[:3])["moment"].nunique()
    rows = []
    for cell, group in found.groupby(CELL, sort=False):
        if group["moment"].nunique() == moments[cell[:3]] > 1:
            rows.append(dict(zip(CELL, cell, strict=True)) | _chosen(group))
    return pd.DataFrame(rows) if rows else empty


def _moments(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return number of updates and last validation accuracy of each run: RUN, `moment` and `at_end`."""
    runs = metrics.sort_values("step").groupby(RUN, sort=False)
    # `last` skips the empty cells between validations.
    found = runs.agg(moment=("step", "max"), at_end=("validation", "last"))
    return found.dropna().reset_index()


def has_moments(metrics: pd.DataFrame) -> bool:
    """Return True if runs of the metrics differ in their number of buffers, so that some are moments of others."""
    return bool(metrics["variant"].str.contains(BUFFERS).any())


def _without_buffers(variant: str) -> str:
    return BUFFERS.sub("", variant).removeprefix("+") or "default"


def _chosen(group: pd.DataFrame) -> dict[str, float]:
    """Return the test accuracy of one seed at the moment that each way chooses."""
    points = group.groupby("example")["points"].first()
    won = group.assign(won=group["published"] * group["points"])
    right = won.pivot_table(index="moment", columns="example", values="won").dropna(axis=1)
    validation = group.groupby("moment")["at_end"].first()

    def accuracy(examples: pd.Index) -> pd.Series:
        return right[examples].sum(axis=1) / points[examples].sum()

    test = accuracy(right.columns)
    halves = [accuracy(right.columns[start::2]) for start in (0, 1)]
    crossed = [other[_best(half)] for half, other in (halves, halves[::-1])]
    found = {
        "last": test.iloc[-1],
        "validated": test[_best(validation)],
        "halved": sum(crossed) / 2,
        "tested": test.max(),
    }
    return found | {GAIN: found["tested"] - found["validated"]}


def _best(accuracies: pd.Series) -> int:
    """Return the moment with the highest accuracy, the latest of equals."""
    return int(accuracies.iloc[::-1].idxmax())


def markdown(samples: pd.DataFrame, metrics: pd.DataFrame) -> str:
    """Render a section with a table per task and sampler; empty if no policy has several moments."""
    found = choices(samples, metrics)
    if found.empty:
        return ""
    how = (
        "Test accuracy (%) at the moment that is reported, by how it is chosen, for each length separately; mean over "
        "lengths, with its 95 % interval over seeds (Student's t). Gain: best on the test set minus best on "
        "validation. It cannot be negative, because both choose among the same moments: the question is its size."
    )
    parts = ["## Choosing the checkpoint", how]
    for (task, sampler), group in found.groupby(["task", "sampler"], sort=False):
        lines = []
        for method, variant, rows in by_policy(group):
            by_seed = rows.groupby("seed")[[*WAYS, GAIN]].mean()
            line = {"Method": method_name(method, variant)}
            line |= {name: _text(by_seed[column].tolist()) for column, name in WAYS.items()}
            lines.append(line | {"Gain": _text(by_seed[GAIN].tolist(), "+")})
        table = pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
        parts.append(f"### {task_name(task)}, {sampler_name(sampler)}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def _text(values: Sequence[float], sign: str = "") -> str:
    """Format a mean with its interval: `31.2 [28.0, 34.4]`."""
    estimate = over_seeds(pd.Series(values).to_numpy(dtype=float))
    mean = f"{100 * estimate.mean:{sign}z.1f}"
    if len(values) == 1:
        return mean
    low, high = estimate.interval()
    return f"{mean} [{100 * low:{sign}z.1f}, {100 * high:{sign}z.1f}]"
