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

from unmask.analysis import diversity
from unmask.analysis.frames import distinct, select
from unmask.analysis.statistics import problem_interval
from unmask.common.errors import InputError
from unmask.common.parquet import read_csv
from unmask.config.schema.introspection import narrow_settings
from unmask.config.specs import RunSpec

RUN = ["method", "task", "variant", "seed", "sampler", "length"]
POLICY = ["task", "method", "variant"]
CELL = ["task", "sampler", "method", "variant", "length"]
PROTOCOLS = ("published", "strict")
SAMPLE = [*PROTOCOLS, "points", "nfe", "tokens", "seconds"]  # columns read of a sample
HACK = "hack"  # column that samples of code tasks have: 1 for a program that tried what no solution needs
Interval = tuple[float, float, float]  # mean, low, high


def read_metrics(file: Path) -> pd.DataFrame:
    """Read a run's training metrics, with its names and settings (JSON) from the spec in the same folder.

    The column `inner` is the number of an update among those on its buffer, from 1. Raises InputError if a column is
    missing.
    """
    run = RunSpec.read(file.with_name("spec.yaml"))
    metrics = read_csv(file)
    missing = {"step", "reward", "nfe"} - set(metrics)
    if missing:
        names = ", ".join(sorted(missing))
        raise InputError(f"{file}: no column {names}. Delete it and run snakemake again.")

    of_reward = narrow_settings(run.task)["reward_only"]
    rewards = {key: value for key, value in run.task_settings.items() if key in of_reward}
    return metrics.assign(
        inner=(metrics["step"] - 1) % run.training.updates_per_buffer + 1,
        method=run.method,
        task=run.task,
        variant=run.variant,
        seed=run.seed,
        settings=json.dumps(run.training.values() | run.method_settings | rewards),
    )


def collect(samples: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average samples by run, sampler and length: grades, their standard errors over problems, costs, and `n` samples.

    `published` weights a sample by its points, as in the papers: their Sudoku accuracy is right blank cells / blank
    cells over the whole test set. Everything else is a plain mean. If problems have several samples, `n` counts
    problems, and there are the columns of diversity.py.
    """
    frame = pd.concat(samples, ignore_index=True)
    several = "sample" in frame
    if several:
        found = diversity.of_runs(frame, RUN)
        frame = diversity.per_problem(frame, RUN)
    frame["published"] *= frame["points"]
    groups = frame.groupby(RUN, sort=False)
    counts = groups.size()
    scores = groups[SAMPLE].mean()
    scores["published"] /= scores["points"]

    of_points = _summed_errors(frame, scores, "published", frame["points"])
    scores["published_error"] = of_points / (counts * scores["points"])
    of_samples = _summed_errors(frame, scores, "strict", 1.0)
    scores["strict_error"] = of_samples / counts

    if HACK in frame:
        scores["hack_rate"] = groups[HACK].mean()
    scores = scores.drop(columns="points").join(counts.rename("n"))
    if several:
        scores = scores.join(found)
    if "planned" in frame:
        scores = scores.join(groups["planned"].first())
    return scores.reset_index()


def _summed_errors(
    frame: pd.DataFrame,
    scores: pd.DataFrame,
    protocol: str,
    weight: pd.Series | float,
) -> pd.Series:
    """Return the root of the summed squares of `right − ratio · weight` over the problems of each run.

    Divided by Σ weight it is the standard error of the ratio Σ right / Σ weight. Cells of a board stay together,
    because they are not independent evidence.
    """
    runs = pd.MultiIndex.from_frame(frame[RUN])
    ratio = scores[protocol].reindex(runs).to_numpy()
    excess = frame[protocol] - ratio * weight
    squares = excess**2
    keys = [frame[name] for name in RUN]
    sums = squares.groupby(keys, sort=False).sum()
    return np.sqrt(sums)


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """Average scores over seeds by cell of a table: mean, `low` and `high` of each protocol, mean NFE, and counts.

    If a base model is evaluated once, a column `interval` says what a cell's interval is over.
    """
    rows = []
    for key, group in scores.groupby(CELL, sort=False):
        cell = dict(zip(CELL, key, strict=True))
        rows.append(cell | _averaged(group))
    cells = pd.DataFrame(rows)

    # The two columns are dropped where they say nothing, so that tables without such cells stay the same.
    over_problems = cells["interval"] == "problems"
    if not over_problems.any():
        cells = cells.drop(columns="interval")
    if "planned" not in scores:
        cells = cells.drop(columns="planned")
    return cells


def _averaged(group: pd.DataFrame) -> dict[str, float | str]:
    """Average the runs of one cell over its seeds."""
    first = group.iloc[0]
    seeds = len(group)
    planned = int(first.planned) if "planned" in group else seeds
    # One seed of a policy that has more to come is not a single evaluation.
    once = first.method == "base" and seeds == planned == 1

    row: dict[str, float | str] = {}
    if "hack_rate" in group:
        row["hack_rate"] = group["hack_rate"].mean()
    for protocol in PROTOCOLS:
        if once:
            mean, low, high = _over_problems(group, protocol)
        else:
            mean, low, high = interval(group[protocol].to_numpy())
        row[protocol] = mean
        row[f"{protocol}_low"] = low
        row[f"{protocol}_high"] = high

    for name in diversity.found_in(group.columns):
        # A seed without two right samples of any problem has no distinct pairs.
        known = group[name].dropna().to_numpy()
        mean, low, high = interval(known) if len(known) else (np.nan,) * 3
        if once:
            low, high = diversity.over_problems(name, mean, first[f"{name}_error"], int(first.n))
        row |= {name: mean, f"{name}_low": low, f"{name}_high": high}

    kind = "none" if seeds == 1 else "seeds"
    if once:
        kind = "problems"
    return row | {
        "nfe": group["nfe"].mean(),
        "seeds": seeds,
        "n": int(first.n),
        "interval": kind,
        "planned": planned,
    }


def _over_problems(group: pd.DataFrame, protocol: str) -> Interval:
    """Return the accuracy of the only run of a cell, and the ends of its interval over test problems."""
    (row,) = group.to_dict("records")
    if f"{protocol}_error" not in row:
        raise InputError(f"the scores have no column {protocol}_error: delete them and run snakemake again")

    accuracy = row[protocol]
    error = row[f"{protocol}_error"]
    low, high = problem_interval(accuracy, error, row["n"])
    return accuracy, low, high


def shared_base(rows: pd.DataFrame) -> list[str]:
    """Return the tasks on which the base model has one run, with none to come, and another policy has other seeds.

    That run is then the base of every seed.
    """
    tasks = []
    for task, of_task in rows.groupby("task", sort=False):
        base = select(of_task, method="base")
        base_seeds = set(base.seed)
        others_exist = set(of_task.seed) > base_seeds
        if len(base_seeds) == 1 and others_exist and not to_come(base):
            tasks.append(task)
    return tasks


def to_come(rows: pd.DataFrame) -> bool:
    """Return True if more seeds of a policy are planned than its rows have."""
    if "planned" not in rows:
        return False
    planned = rows["planned"].iloc[0]
    return bool(planned > rows.seed.nunique())


def for_every_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Repeat the rows of a base model that is evaluated once for each seed of the other policies."""
    tasks = shared_base(rows)
    if not tasks:
        return rows

    once = rows.task.isin(tasks) & (rows.method == "base")
    bases = rows[once]
    others = rows[~once]
    parts = []
    for task in tasks:
        base = select(bases, task=task)
        for seed in distinct(select(others, task=task), "seed"):
            parts.append(base.assign(seed=seed))
    return pd.concat([*parts, others], ignore_index=True)


def steps_over_seeds(gaps: pd.DataFrame) -> pd.DataFrame:
    """Average the gaps of surrogates: mean KL [nats per token], `low` and `high` over seeds by quarter of the steps."""
    # Steps are weighted by the tokens that they measure, so that the mean is per token.
    nats = gaps["kl"] * gaps["tokens"]
    weighted = gaps.assign(quarter=quarters(gaps, first=0), nats=nats)
    cell = [*POLICY, "surrogate", "quarter"]
    runs = weighted.groupby([*cell, "seed"], sort=False)
    sums = runs[["nats", "tokens"]].sum()
    by_seed = sums["nats"] / sums["tokens"]

    rows = []
    for key, group in by_seed.groupby(cell, sort=False):
        mean, low, high = interval(group.to_numpy())
        labels = dict(zip(cell, key, strict=True))
        values = {"kl": mean, "low": low, "high": high, "seeds": len(group)}
        rows.append(labels | values)
    cells = pd.DataFrame(rows)
    if "planned" not in gaps:
        return cells
    planned = gaps[[*POLICY, "planned"]].drop_duplicates()
    return cells.merge(planned, on=POLICY)


def quarters(steps: pd.DataFrame, first: int) -> pd.Series:
    """Return the quarter, 1 to 4, of each row's step among all steps of its policy, which begin at `first`."""
    # Of each policy's own steps: methods decode in different numbers of them.
    done = steps["step"] - first
    policies = [steps[name] for name in POLICY]
    last = done.groupby(policies).transform("max")
    return 1 + 4 * done // (last + 1)


def interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Return the mean and the ends of Student's t interval for it; the ends are NaN for fewer than two values."""
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return mean, float("nan"), float("nan")

    quantile = stats.t.ppf((1 + level) / 2, count - 1)
    deviation = np.std(values, ddof=1)
    half = float(quantile * deviation / np.sqrt(count))
    return mean, mean - half, mean + half
