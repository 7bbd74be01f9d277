"""From samples to scores: means over a run's samples, then over seeds, with intervals.

The unit of statistics is the seed (for models made here, a seed has its own base model): a run's accuracy is one
number, and the interval says where the mean over seeds lies. Samples of one run are not independent draws of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from unmask.data import read_csv
from unmask.files import InputError
from unmask.spec import Run

RUN = ["method", "task", "variant", "seed", "sampler", "length"]
CELL = ["task", "sampler", "method", "variant", "length"]
PROTOCOLS = ("published", "strict")
SAMPLE = [*PROTOCOLS, "points", "nfe", "tokens", "seconds"]  # what is read of a sample


def read_metrics(file: Path) -> pd.DataFrame:
    """A run's training metrics with the names and settings (JSON) of what was trained, from the spec beside them."""
    run = Run.read(file.with_name("spec.yaml"))
    metrics = read_csv(file)
    if missing := {"step", "reward", "nfe"} - set(metrics):
        raise InputError(f"{file}: no column {', '.join(sorted(missing))}. Delete it and run snakemake again.")
    settings = json.dumps(run.training | run.method_settings)
    return metrics.assign(method=run.method, task=run.task, variant=run.variant, seed=run.seed, settings=settings)


def collect(samples: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One row for each run, sampler and length: grades and costs over `n` samples.

    A sample counts in `published` by its points, as in the papers: their Sudoku accuracy is right blank cells / blank
    cells over the whole test set. Everything else is a plain mean.
    """
    frame = pd.concat(samples, ignore_index=True)
    frame["published"] *= frame["points"]
    groups = frame.groupby(RUN, sort=False)
    scores = groups[SAMPLE].mean()
    scores["published"] /= scores.pop("points")
    return scores.join(groups.size().rename("n")).reset_index()


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """One row for each cell of a table: mean, `low`, `high` of each protocol over the seeds, mean NFE, and counts."""
    rows = []
    for key, group in scores.groupby(CELL, sort=False):
        row = dict(zip(CELL, key, strict=True))
        for protocol in PROTOCOLS:
            mean, low, high = interval(group[protocol].to_numpy())
            row |= {protocol: mean, f"{protocol}_low": low, f"{protocol}_high": high}
        rows.append(row | {"nfe": group["nfe"].mean(), "seeds": len(group), "n": int(group["n"].iloc[0])})
    return pd.DataFrame(rows)


def steps_over_seeds(gaps: pd.DataFrame) -> pd.DataFrame:
    """Gaps of surrogates: mean KL, `low` and `high` over the seeds for each quarter of the denoising steps."""
    weighted = gaps.assign(quarter=quarters(gaps, first=0), nats=gaps["kl"] * gaps["tokens"])
    cell = ["task", "method", "variant", "surrogate", "quarter"]
    sums = weighted.groupby([*cell, "seed"], sort=False)[["nats", "tokens"]].sum()
    rows = []
    for key, group in (sums["nats"] / sums["tokens"]).groupby(cell, sort=False):
        mean, low, high = interval(group.to_numpy())
        rows.append(dict(zip(cell, key, strict=True)) | {"kl": mean, "low": low, "high": high, "seeds": len(group)})
    return pd.DataFrame(rows)


def quarters(steps: pd.DataFrame, first: int) -> pd.Series:
    """1 to 4 for each row of metrics or of a diagnosis: of its policy's steps, which begin at `first`."""
    done = steps["step"] - first
    last = done.groupby([steps[name] for name in ("task", "method", "variant")]).transform("max")
    return 1 + 4 * done // (last + 1)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and the ends of Student's t interval for it; the ends are NaN for fewer than two values."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return mean, mean - float(half), mean + float(half)
