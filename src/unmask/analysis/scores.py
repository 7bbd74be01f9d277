"""From samples to scores: means over a run's samples, then over seeds, with intervals.

The unit of statistics is the seed; base models trained from scratch have one model per seed. A run's accuracy is one
number, and the interval says where the mean over seeds lies. Samples of one run are not independent draws of it.

A base model with a single run is evaluated once and has no seeds. Its interval is over test problems, and says how much
its accuracy would vary on other problems of the same kind. Tables print the two kinds of interval differently.

While runs are missing, tables of samples, scores and metrics have a column `planned`: the number of seeds that the
policy of a row will have. Without this column no run is missing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from unmask.analysis.statistics import problem_interval
from unmask.common.errors import InputError
from unmask.common.parquet import read_csv
from unmask.config.specs import RunSpec

RUN = ["method", "task", "variant", "seed", "sampler", "length"]
CELL = ["task", "sampler", "method", "variant", "length"]
PROTOCOLS = ("published", "strict")
SAMPLE = [*PROTOCOLS, "points", "nfe", "tokens", "seconds"]  # columns read of a sample


def read_metrics(file: Path) -> pd.DataFrame:
    """Read a run's training metrics, with its names and settings (JSON) from the spec in the same folder.

    Raises InputError if a column is missing.
    """
    run = RunSpec.read(file.with_name("spec.yaml"))
    metrics = read_csv(file)
    if missing := {"step", "reward", "nfe"} - set(metrics):
        raise InputError(f"{file}: no column {', '.join(sorted(missing))}. Delete it and run snakemake again.")
    settings = json.dumps(run.training | run.method_settings)
    return metrics.assign(method=run.method, task=run.task, variant=run.variant, seed=run.seed, settings=settings)


def collect(samples: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average samples by run, sampler and length: grades, their standard errors over problems, costs, and `n` samples.

    `published` weights a sample by its points, as in the papers: their Sudoku accuracy is right blank cells / blank
    cells over the whole test set. Everything else is a plain mean.
    """
    frame = pd.concat(samples, ignore_index=True)
    frame["published"] *= frame["points"]
    groups = frame.groupby(RUN, sort=False)
    scores = groups[SAMPLE].mean()
    scores["published"] /= scores["points"]

    rows = pd.MultiIndex.from_frame(frame[RUN])
    for protocol, weight in (("published", frame["points"]), ("strict", 1.0)):
        # Standard error of a ratio Σ right / Σ weight: the spread of right − ratio · weight over problems. Cells of a
        # board stay together, because they are not independent evidence.
        excess = frame[protocol] - scores[protocol].reindex(rows).to_numpy() * weight
        squares = (excess**2).groupby([frame[name] for name in RUN], sort=False).sum()
        weights = groups.size() * (scores["points"] if protocol == "published" else 1)
        scores[f"{protocol}_error"] = np.sqrt(squares) / weights

    scores = scores.drop(columns="points").join(groups.size().rename("n"))
    if "planned" in frame:
        scores = scores.join(groups["planned"].first())
    return scores.reset_index()


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """Average scores over seeds by cell of a table: mean, `low` and `high` of each protocol, mean NFE, and counts.

    If a base model is evaluated once, a column `interval` says what a cell's interval is over.
    """
    rows = []
    for key, group in scores.groupby(CELL, sort=False):
        row = dict(zip(CELL, key, strict=True))
        planned = int(group["planned"].iloc[0]) if "planned" in group else len(group)
        # One seed of a policy that has more to come is not a single evaluation.
        once = row["method"] == "base" and len(group) == planned == 1
        for protocol in PROTOCOLS:
            mean, low, high = _over_problems(group, protocol) if once else interval(group[protocol].to_numpy())
            row |= {protocol: mean, f"{protocol}_low": low, f"{protocol}_high": high}
        row |= {"nfe": group["nfe"].mean(), "seeds": len(group), "n": int(group["n"].iloc[0])}
        over = "problems" if once else "seeds" if len(group) > 1 else "none"
        rows.append(row | {"interval": over, "planned": planned})
    cells = pd.DataFrame(rows)
    # The two columns are dropped where they say nothing, so that tables without such cells stay the same.
    said = {"interval": (cells["interval"] == "problems").any(), "planned": "planned" in scores}
    return cells.drop(columns=[name for name, kept in said.items() if not kept])


def _over_problems(group: pd.DataFrame, protocol: str) -> tuple[float, float, float]:
    """Return the accuracy of the only run of a cell, and the ends of its interval over test problems."""
    (row,) = group.to_dict("records")
    if f"{protocol}_error" not in row:
        raise InputError(f"the scores have no column {protocol}_error: delete them and run snakemake again")
    return row[protocol], *problem_interval(row[protocol], row[f"{protocol}_error"], row["n"])


def shared_base(rows: pd.DataFrame) -> list[str]:
    """Return the tasks on which the base model has one run, with none to come, and another policy has other seeds.

    That run is then the base of every seed.
    """
    found = []
    for task, some in rows.groupby("task", sort=False):
        base = some["method"] == "base"
        one, others = set(some.loc[base, "seed"]), set(some.loc[~base, "seed"])
        if len(one) == 1 and others - one and not to_come(some[base]):
            found.append(task)
    return found


def to_come(rows: pd.DataFrame) -> bool:
    """Return True if more seeds of a policy are planned than its rows have."""
    return "planned" in rows and bool(rows["planned"].iloc[0] > rows["seed"].nunique())


def for_every_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Repeat the rows of a base model that is evaluated once for each seed of the other policies."""
    parts = []
    tasks = shared_base(rows)
    once = rows["task"].isin(tasks) & (rows["method"] == "base")
    for task in tasks:
        here = rows["task"] == task
        seeds = rows.loc[here & ~once, "seed"].unique()
        parts += [rows[here & once].assign(seed=seed) for seed in seeds]
    return pd.concat([*parts, rows[~once]], ignore_index=True) if tasks else rows


def steps_over_seeds(gaps: pd.DataFrame) -> pd.DataFrame:
    """Average the gaps of surrogates: mean KL [nats per token], `low` and `high` over seeds by quarter of the steps."""
    # Steps are weighted by the tokens that they measure, so that the mean is per token.
    weighted = gaps.assign(quarter=quarters(gaps, first=0), nats=gaps["kl"] * gaps["tokens"])
    cell = ["task", "method", "variant", "surrogate", "quarter"]
    sums = weighted.groupby([*cell, "seed"], sort=False)[["nats", "tokens"]].sum()
    rows = []
    for key, group in (sums["nats"] / sums["tokens"]).groupby(cell, sort=False):
        mean, low, high = interval(group.to_numpy())
        rows.append(dict(zip(cell, key, strict=True)) | {"kl": mean, "low": low, "high": high, "seeds": len(group)})
    cells = pd.DataFrame(rows)
    policy = ["task", "method", "variant"]
    return cells.merge(gaps[[*policy, "planned"]].drop_duplicates(), on=policy) if "planned" in gaps else cells


def quarters(steps: pd.DataFrame, first: int) -> pd.Series:
    """Return the quarter, 1 to 4, of each row's step among all steps of its policy, which begin at `first`."""
    # Of each policy's own steps: methods decode in different numbers of them.
    done = steps["step"] - first
    last = done.groupby([steps[name] for name in ("task", "method", "variant")]).transform("max")
    return 1 + 4 * done // (last + 1)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean and the ends of Student's t interval for it; the ends are NaN for fewer than two values."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return mean, mean - float(half), mean + float(half)
