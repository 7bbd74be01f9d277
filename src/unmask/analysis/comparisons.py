"""Pairwise comparisons of an experiment's methods on the same test problems, as tables.

Every trained method is compared with the base model, and DMPO with every other trained method, on strict 0/1 grades.
Without either, all are compared with the first policy of the experiment.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd

from unmask.analysis.scores import for_every_seed, interval, shared_base, to_come
from unmask.analysis.statistics import holm, mcnemar, over_seeds_and_examples, paired_interval, standard_error
from unmask.common.catalogue import sampler_name, task_name
from unmask.common.errors import InputError
from unmask.methods import method_name

COLUMNS = ["method", "task", "variant", "seed", "sampler", "length", "example", "strict", "nfe"]
CELL = ["task", "sampler", "length"]
LEVEL = 0.05
PASSES = "Forward passes (%)"
# Added to the tables where the base model has a single run on some tasks.
ONCE = (
    "The base model is evaluated once ({tasks}), and every seed of a trained method is compared with this evaluation. "
    "Its uncertainty over test problems is therefore the same for all seeds: intervals over seeds leave it out; those "
    "over seeds and examples include it. In the first table the base model's interval is over test examples alone."
)
Policy = tuple[str, str]  # method and variant


def pairs(samples: pd.DataFrame) -> list[tuple[Policy, Policy]]:
    """Return the pairs of policies to compare; the first of a pair is expected to be better."""
    rows = samples[["method", "variant"]].drop_duplicates()
    policies: list[Policy] = list(rows.itertuples(index=False, name=None))
    base = ("base", "default")
    dmpo = ("dmpo", "default")
    trained = [policy for policy in policies if policy != base]

    found: list[tuple[Policy, Policy]] = []
    if base in policies:
        found += [(policy, base) for policy in trained]
    if dmpo in policies:
        found += [(dmpo, policy) for policy in trained if policy != dmpo]
    if found:
        return found
    return [(policy, trained[0]) for policy in trained[1:]]


def grades(samples: pd.DataFrame) -> pd.DataFrame:
    """Return strict grades, a row per policy and cell, a column per seed and example.

    A base model that is evaluated once has its grades repeated for every seed. Raises InputError if two runs answered
    different examples, or if a run is missing that is not still to come.
    """
    rows = for_every_seed(samples)
    wide = rows.pivot_table(
        index=["method", "variant", *CELL],
        columns=["seed", "example"],
        values="strict",
        sort=False,
    )
    unfinished = set()
    for policy, of_policy in samples.groupby(["method", "variant", "task"], sort=False):
        if to_come(of_policy):
            unfinished.add(policy)
    for task, of_task in wide.groupby(level="task", sort=False):
        _refuse_gaps(task, of_task, unfinished)
    return wide


def _refuse_gaps(task: str, rows: pd.DataFrame, unfinished: set[tuple[str, str, str]]) -> None:
    """Raise InputError if a policy lacks an example that another policy of the task has answered.

    Paired tests need the same examples on both sides. Only an `unfinished` policy may lack one, with its whole seed.
    """
    answered = rows.dropna(axis=1, how="all")
    lacking = answered.isna().T
    for _, examples in lacking.groupby(level="seed"):
        incomplete = examples.columns[examples.any()]
        for name in incomplete:
            seed_is_missing = examples[name].all()
            if name[:3] in unfinished and seed_is_missing:
                continue
            label = "/".join(map(str, name))
            raise InputError(f"{task}: {label} lacks seeds or examples that others have; delete its samples")


def compare(samples: pd.DataFrame) -> pd.DataFrame:
    """Compare each pair of policies by task, sampler, length and seed, one row for each.

    A row has the difference with its interval, McNemar's counts and p, and `p_holm`, corrected for all rows of the
    experiment. Where seeds are missing, those that both policies have are compared.
    """
    wide = grades(samples)
    rows: list[dict[str, object]] = []
    for (better, worse), cell in itertools.product(pairs(samples), _cells(wide)):
        ours = (*better, *cell)
        theirs = (*worse, *cell)
        # Not every policy is on every task, sampler and length of the experiment.
        if ours not in wide.index or theirs not in wide.index:
            continue
        labels = {
            "better": "/".join(better),
            "worse": "/".join(worse),
            **dict(zip(CELL, cell, strict=True)),
        }
        for row in _by_seed(wide.loc[ours], wide.loc[theirs]):
            rows.append(labels | row)

    found = pd.DataFrame(rows)
    if found.empty:
        return found
    return found.assign(p_holm=holm(found["p"]))


def _by_seed(better: pd.Series, worse: pd.Series) -> Iterator[dict[str, object]]:
    """Compare two policies' grades [seed, example] in one cell; yield a row for each seed that both have."""
    better = better.dropna().unstack("seed")
    worse = worse.dropna().unstack("seed")
    for seed in better.columns.intersection(worse.columns, sort=False):
        ours = better[seed].to_numpy()
        theirs = worse[seed].to_numpy()
        low, high = paired_interval(ours, theirs)
        gained, lost, p = mcnemar(ours, theirs)
        yield {
            "seed": seed,
            "n": len(ours),
            "difference": ours.mean() - theirs.mean(),
            "low": low,
            "high": high,
            "gained": gained,
            "lost": lost,
            "p": p,
        }


def over_seeds(compared: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Summarise each pair, task, sampler and length over seeds, with intervals over seeds and over seeds and examples.

    If the forward passes of any pair differ, a column has their relative change with its interval over seeds.
    """
    wide = grades(samples)
    runs = for_every_seed(samples).groupby(["method", "variant", *CELL, "seed"])
    passes = runs["nfe"].mean()
    rows = []
    for (better, worse, *cell), group in compared.groupby(["better", "worse", *CELL], sort=False):
        ours = (*better.split("/"), *cell)
        theirs = (*worse.split("/"), *cell)
        our_grades = wide.loc[ours].dropna()
        their_grades = wide.loc[theirs].dropna()
        # Subtracting before averaging pairs the policies by seed and by example.
        paired = (our_grades - their_grades).dropna()
        differences = paired.unstack("example").to_numpy()
        _, low, high = interval(differences.mean(1))
        spread = over_seeds_and_examples([differences]).interval()

        task, sampler, length = cell
        rows.append(
            {
                "Pair": f"{_name(better)} − {_name(worse)}",
                "Task": task_name(task),
                "Sampler": sampler_name(sampler),
                "L": length,
                "Difference": f"{100 * differences.mean():+.1f}",
                "Seeds": _range(low, high),
                "Seeds and examples": _range(*spread),
                PASSES: _change(passes[ours], passes[theirs]),
                "better / worse / neither": _verdict_counts(group),
            }
        )
    found = pd.DataFrame(rows)
    if (found[PASSES] == "").all():
        found = found.drop(columns=PASSES)
    return found


def _verdict_counts(group: pd.DataFrame) -> str:
    """Count the seeds in which the first policy is significantly better, significantly worse, and neither."""
    significant = group["p_holm"] < LEVEL
    better = significant & (group["difference"] > 0)
    worse = significant & (group["difference"] < 0)
    neither = ~significant
    return f"{better.sum()} / {worse.sum()} / {neither.sum()}"


def aggregates(samples: pd.DataFrame) -> pd.DataFrame:
    """Average strict accuracy over lengths and tasks (equal weights), one row per policy and sampler."""
    keys = ["sampler", "method", "variant", "task", "seed", "example"]
    mean = samples.groupby(keys, sort=False)["strict"].mean()
    rows = []
    for (sampler, method, variant), group in mean.groupby(level=[0, 1, 2], sort=False):
        tasks = group.groupby(level="task", sort=False)
        strata = [task.unstack("example").to_numpy() for _, task in tasks]
        by_seed = _means_of_complete_seeds(group, len(strata))
        if len(by_seed):
            centre, low, high = interval(by_seed)
        else:
            task_means = [task.mean() for task in strata]
            centre = float(np.mean(task_means))
            low = high = np.nan

        error = ""
        if len(by_seed) > 1:
            error = f"{100 * standard_error(by_seed):.1f}"
        spread = over_seeds_and_examples(strata).interval()
        shapes = [task.shape for task in strata]
        sizes = [f"{seeds} × {examples}" for seeds, examples in shapes]
        rows.append(
            {
                "Sampler": sampler_name(sampler),
                "Method": method_name(method, variant),
                "Mean": f"{100 * centre:.1f}",
                "Standard error": error,
                "Seeds": _range(low, high, ""),
                "Seeds and examples": _range(*spread, ""),
                "Tasks": len(strata),
                "n": "/".join(sizes),
            }
        )
    return pd.DataFrame(rows)


def _means_of_complete_seeds(grades: pd.Series, tasks: int) -> np.ndarray:
    """Return the mean over tasks of each seed [seeds] that has all of the `tasks`."""
    # Tasks differ in difficulty, so only seeds that have all of them make a comparable mean.
    by_task = grades.groupby(level=["task", "seed"]).mean()
    by_seed = by_task.groupby(level="seed").agg(["mean", "size"])
    complete = by_seed["size"] == tasks
    return by_seed.loc[complete, "mean"].to_numpy()


def markdown(title: str, compared: pd.DataFrame, samples: pd.DataFrame) -> str:
    """Render both tables with explanations as Markdown."""
    parts = [
        f"# {title}: comparisons",
        "Strict 0/1 grades, in points. Seeds: 95 % interval of Student's t over seeds. Seeds and examples: 95 % "
        "interval for other seeds on other test examples (crossed random effects, Cochran and Cox's t); "
        "seeds of several tasks count as independent, so over several it may be the narrower one. Ends may lie beyond "
        "what a share can be.",
        "## All tasks together",
        aggregates(samples).to_markdown(index=False, disable_numparse=True),
        "n: seeds × test examples of each task; every task has the same weight, so has every length.",
        "## Pairs on the same test problems",
    ]
    once = shared_base(samples)
    if once:
        tasks = ", ".join(map(task_name, once))
        parts.insert(2, ONCE.format(tasks=tasks))
    if compared.empty:
        return "\n\n".join([*parts, "Nothing to compare: there is one policy."]) + "\n"

    parts += [
        over_seeds(compared, samples).to_markdown(index=False, disable_numparse=True),
        "The last column counts seeds: in how many the first policy is better or worse than the second by McNemar's "
        f"exact test at {LEVEL:.0%}, corrected (Holm) for all {len(compared)} tests of this experiment. It speaks of "
        "these policies; the intervals over seeds speak of the methods, and are not corrected.",
    ]
    return "\n\n".join(parts) + "\n"


def _cells(wide: pd.DataFrame) -> list[tuple[str, str, int]]:
    cells = wide.index.droplevel(["method", "variant"])
    return list(cells.unique())


def _name(policy: str) -> str:
    method, variant = policy.split("/")
    return method_name(method, variant)


def _change(ours: pd.Series, theirs: pd.Series) -> str:
    """Format the relative change of means [seeds] with its interval; "" where every seed changes by less than 0.5 %."""
    ratio = (ours / theirs).dropna().to_numpy()
    change = ratio - 1
    if np.abs(change).max() < 0.005:
        return ""

    centre, low, high = interval(change)
    mean = f"{100 * centre:+.0f}"
    if np.isnan(low):
        return mean
    return f"{mean} [{100 * low:+.0f}, {100 * high:+.0f}]"


def _range(low: float, high: float, sign: str = "+") -> str:
    if np.isnan(low):
        return ""
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
