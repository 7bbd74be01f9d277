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
    base, dmpo = ("base", "default"), ("dmpo", "default")
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
    wide = for_every_seed(samples).pivot_table(
        index=["method", "variant", *CELL],
        columns=["seed", "example"],
        values="strict",
        sort=False,
    )
    policies = samples.groupby(["method", "variant", "task"], sort=False)
    unfinished = {policy for policy, rows in policies if to_come(rows)}
    for task, rows in wide.groupby(level="task", sort=False):
        _refuse_gaps(task, rows, unfinished)
    return wide


def _refuse_gaps(task: str, rows: pd.DataFrame, unfinished: set[tuple[str, str, str]]) -> None:
    """Raise InputError if a policy lacks an example that another policy of the task has answered.

    Paired tests need the same examples on both sides. Only an `unfinished` policy may lack one, with its whole seed.
    """
    lacking = rows.dropna(axis=1, how="all").isna().T
    for _, examples in lacking.groupby(level="seed"):
        for name in examples.columns[examples.any()]:
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
        ours, theirs = (*better, *cell), (*worse, *cell)
        # Not every policy is on every task, sampler and length of the experiment.
        if ours in wide.index and theirs in wide.index:
            labels: dict[str, object] = {"better": "/".join(better), "worse": "/".join(worse)}
            labels.update(zip(CELL, cell, strict=True))
            rows += [labels | row for row in _by_seed(wide.loc[ours], wide.loc[theirs])]

    found = pd.DataFrame(rows)
    if found.empty:
        return found
    return found.assign(p_holm=holm(found["p"]))


def _by_seed(better: pd.Series, worse: pd.Series) -> Iterator[dict[str, object]]:
    """Compare two policies' grades [seed, example] in one cell; yield a row for each seed that both have."""
    better = better.dropna().unstack("seed")
    worse = worse.dropna().unstack("seed")
    for seed in better.columns.intersection(worse.columns, sort=False):
        ours, theirs = better[seed].to_numpy(), worse[seed].to_numpy()
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
    passes = for_every_seed(samples).groupby(["method", "variant", *CELL, "seed"])["nfe"].mean()
    rows = []
    for (better, worse, *cell), group in compared.groupby(["better", "worse", *CELL], sort=False):
        ours, theirs = (*better.split("/"), *cell), (*worse.split("/"), *cell)
        # Subtracting before averaging pairs the policies by seed and by example.
        paired = (wide.loc[ours].dropna() - wide.loc[theirs].dropna()).dropna()
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
    return f"{better.sum()} / {worse.sum()} / {(~significant).sum()}"


def aggregates(samples: pd.DataFrame) -> pd.DataFrame:
    """Average strict accuracy over lengths and tasks (equal weights), one row per policy and sampler."""
    keys = ["sampler", "method", "variant", "task", "seed", "example"]
    mean = samples.groupby(keys, sort=False)["strict"].mean()
    rows = []
    for (sampler, method, variant), group in mean.groupby(level=[0, 1, 2], sort=False):
        tasks = group.groupby(level="task", sort=False)
        strata = [task.unstack("example").to_numpy() for _, task in tasks]

        # Tasks differ in difficulty, so only seeds that have all of them make a comparable mean.
        by_task = group.groupby(level=["task", "seed"]).mean()
        of_seeds = by_task.groupby(level="seed").agg(["mean", "size"])
        complete = of_seeds["size"] == len(strata)
        by_seed = of_seeds.loc[complete, "mean"].to_numpy()
        if len(by_seed):
            centre, low, high = interval(by_seed)
        else:
            centre, low, high = float(np.mean([grades.mean() for grades in strata])), np.nan, np.nan

        rows.append(
            {
                "Sampler": sampler_name(sampler),
                "Method": method_name(method, variant),
                "Mean": f"{100 * centre:.1f}",
                "Standard error": f"{100 * standard_error(by_seed):.1f}" if len(by_seed) > 1 else "",
                "Seeds": _range(low, high, ""),
                "Seeds and examples": _range(*over_seeds_and_examples(strata).interval(), ""),
                "Tasks": len(strata),
                "n": "/".join(f"{seeds} × {examples}" for seeds, examples in map(np.shape, strata)),
            }
        )
    return pd.DataFrame(rows)


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
    change = (ours / theirs - 1).dropna().to_numpy()
    if np.abs(change).max() < 0.005:
        return ""

    centre, low, high = interval(change)
    if np.isnan(low):
        return f"{100 * centre:+.0f}"
    return f"{100 * centre:+.0f} [{100 * low:+.0f}, {100 * high:+.0f}]"


def _range(low: float, high: float, sign: str = "+") -> str:
    if np.isnan(low):
        return ""
    return f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
