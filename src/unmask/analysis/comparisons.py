"""Pairwise comparisons of an experiment's methods on the same test problems, as tables.

Every trained method is compared with the base model, and DMPO with every other trained method, on strict 0/1 grades.
Without either, all are compared with the first policy of the experiment.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from unmask.analysis.scores import for_every_seed, interval, shared_base, to_come
from unmask.analysis.statistics import holm, mcnemar, over_seeds_and_examples, paired_interval, standard_error
from unmask.common.catalogue import method_name, sampler_name, task_name
from unmask.common.errors import InputError

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
    found = [(m, v) for m, v in samples[["method", "variant"]].drop_duplicates().itertuples(index=False)]
    base, dmpo = ("base", "default"), ("dmpo", "default")
    trained = [policy for policy in found if policy != base]
    against_base = [(policy, base) for policy in trained if base in found]
    against = against_base + [(dmpo, policy) for policy in trained if dmpo in found and policy != dmpo]
    return against or [(policy, trained[0]) for policy in trained[1:]]


def grades(samples: pd.DataFrame) -> pd.DataFrame:
    """Return strict grades, a row per policy and cell, a column per seed and example.

    A base model that is evaluated once has its grades repeated for every seed. Raises InputError if two runs answered
    different examples, or if a run is missing that is not still to come.
    """
    wide = for_every_seed(samples).pivot_table(
        index=["method", "variant", *CELL], columns=["seed", "example"], values="strict", sort=False
    )
    policies = samples.groupby(["method", "variant", "task"], sort=False)
    unfinished = {policy for policy, rows in policies if to_come(rows)}

    # Paired tests need the same examples on both sides: a gap is an error, unless it is the whole seed of a policy that
    # has not finished all of its runs.
    for task, rows in wide.groupby(level="task", sort=False):
        lacking = rows.dropna(axis=1, how="all").isna().T
        for _, examples in lacking.groupby(level="seed"):
            for name in examples.columns[examples.any()]:
                if name[:3] in unfinished and examples[name].all():
                    continue
                label = "/".join(map(str, name))
                raise InputError(f"{task}: {label} lacks seeds or examples that others have; delete its samples")
    return wide


def compare(samples: pd.DataFrame) -> pd.DataFrame:
    """Compare each pair of policies by task, sampler, length and seed, one row for each.

    A row has the difference with its interval, McNemar's counts and p, and `p_holm`, corrected for all rows of the
    experiment. Where seeds are missing, those that both policies have are compared.
    """
    wide = grades(samples)
    rows = []
    for (better, worse), cell in itertools.product(pairs(samples), _cells(wide)):
        # Not every policy is on every task, sampler and length of the experiment.
        if (*better, *cell) not in wide.index or (*worse, *cell) not in wide.index:
            continue
        one, other = (wide.loc[(*policy, *cell)].dropna().unstack("seed") for policy in (better, worse))
        for seed in one.columns.intersection(other.columns, sort=False):
            ours, theirs = one[seed].to_numpy(), other[seed].to_numpy()
            low, high = paired_interval(ours, theirs)
            gained, lost, p = mcnemar(ours, theirs)
            rows.append({
                "better": "/".join(better), "worse": "/".join(worse), **dict(zip(CELL, cell, strict=True)),
                "seed": seed, "n": len(ours), "difference": ours.mean() - theirs.mean(), "low": low, "high": high,
                "gained": gained, "lost": lost, "p": p,
            })  # fmt: skip
    found = pd.DataFrame(rows)
    return found.assign(p_holm=holm(found["p"])) if rows else found


def over_seeds(compared: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """Summarise each pair, task, sampler and length over seeds, with intervals over seeds and over seeds and examples.

    If the forward passes of any pair differ, a column has their relative change with its interval over seeds.
    """
    wide = grades(samples)
    passes = for_every_seed(samples).groupby(["method", "variant", *CELL, "seed"])["nfe"].mean()
    rows = []
    for (better, worse, *cell), group in compared.groupby(["better", "worse", *CELL], sort=False):
        one, other = (wide.loc[(*policy.split("/"), *cell)].dropna() for policy in (better, worse))
        # Subtracting before averaging pairs the policies by seed and by example.
        both = (one - other).dropna().unstack("example").to_numpy()
        _, low, high = interval(both.mean(1))
        spread = over_seeds_and_examples([both]).interval()
        spent = [passes[(*policy.split("/"), *cell)] for policy in (better, worse)]
        significant = group["p_holm"] < LEVEL
        rows.append({
            "Pair": f"{_name(better)} − {_name(worse)}",
            "Task": task_name(cell[0]), "Sampler": sampler_name(cell[1]), "L": cell[2],
            "Difference": f"{100 * both.mean():+.1f}", "Seeds": _range(low, high),
            "Seeds and examples": _range(*spread), PASSES: _change(spent[0], spent[1]),
            "better / worse / neither": f"{(significant & (group['difference'] > 0)).sum()} / "
            f"{(significant & (group['difference'] < 0)).sum()} / {(~significant).sum()}",
        })  # fmt: skip
    found = pd.DataFrame(rows)
    return found if (found[PASSES] != "").any() else found.drop(columns=PASSES)


def aggregates(samples: pd.DataFrame) -> pd.DataFrame:
    """Average strict accuracy over lengths and tasks (equal weights), one row per policy and sampler."""
    mean = samples.groupby(["sampler", "method", "variant", "task", "seed", "example"], sort=False)["strict"].mean()
    rows = []
    for (sampler, method, variant), group in mean.groupby(level=[0, 1, 2], sort=False):
        strata = [task.unstack("example").to_numpy() for _, task in group.groupby(level="task", sort=False)]
        # Tasks differ in difficulty, so only seeds that have all of them make a comparable mean.
        of_seeds = group.groupby(level=["task", "seed"]).mean().groupby(level="seed").agg(["mean", "size"])
        by_seed = of_seeds.loc[of_seeds["size"] == len(strata), "mean"].to_numpy()
        centre, low, high = interval(by_seed) if len(by_seed) else (np.mean([s.mean() for s in strata]), np.nan, np.nan)
        rows.append({
            "Sampler": sampler_name(sampler), "Method": method_name(method, variant),
            "Mean": f"{100 * centre:.1f}",
            "Standard error": f"{100 * standard_error(by_seed):.1f}" if len(by_seed) > 1 else "",
            "Seeds": _range(low, high, ""),
            "Seeds and examples": _range(*over_seeds_and_examples(strata).interval(), ""),
            "Tasks": len(strata), "n": "/".join(f"{s.shape[0]} × {s.shape[1]}" for s in strata),
        })  # fmt: skip
    return pd.DataFrame(rows)


def markdown(title: str, compared: pd.DataFrame, samples: pd.DataFrame) -> str:
    """Render both tables with explanations as Markdown."""
    once = [task_name(task) for task in shared_base(samples)]
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
    if once:
        parts.insert(2, ONCE.format(tasks=", ".join(once)))
    if compared.empty:
        return "\n\n".join([*parts, "Nothing to compare: there is one policy."]) + "\n"
    body = over_seeds(compared, samples)
    parts += [
        body.to_markdown(index=False, disable_numparse=True),
        "The last column counts seeds: in how many the first policy is better or worse than the second by McNemar's "
        f"exact test at {LEVEL:.0%}, corrected (Holm) for all {len(compared)} tests of this experiment. It speaks of "
        "these policies; the intervals over seeds speak of the methods, and are not corrected.",
    ]
    return "\n\n".join(parts) + "\n"


def _cells(wide: pd.DataFrame) -> list[tuple[str, str, int]]:
    return list(wide.index.droplevel(["method", "variant"]).unique())


def _name(policy: str) -> str:
    return method_name(*policy.split("/"))


def _change(ours: pd.Series, theirs: pd.Series) -> str:
    """Format the relative change of means [seeds] with its interval; "" where every seed changes by less than 0.5 %."""
    change = (ours / theirs - 1).dropna().to_numpy()
    if np.abs(change).max() < 0.005:
        return ""
    centre, low, high = interval(change)
    return f"{100 * centre:+.0f}" + ("" if np.isnan(low) else f" [{100 * low:+.0f}, {100 * high:+.0f}]")


def _range(low: float, high: float, sign: str = "+") -> str:
    return "" if np.isnan(low) else f"[{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
