"""What a figure's numbers rest on, in words: seeds, test problems, responses. They are counted in what is drawn."""

from __future__ import annotations

import json

import pandas as pd

from unmask.analysis.frames import select
from unmask.analysis.scores import RUN


def of_scores(scores: pd.DataFrame) -> str:
    """Describe scores: `8 seeds, base model evaluated once; 256 test problems per run`."""
    problems = _span(scores["n"], "test problem")
    return f"{of_seeds(scores)}; {problems} per run."


def of_samples(samples: pd.DataFrame) -> str:
    """Describe samples: `8 seeds; 256 responses per run and length`."""
    responses = samples.groupby(RUN, sort=False).size()
    return f"{of_seeds(samples)}; {_span(responses, 'response')} per run and length."


def of_metrics(metrics: pd.DataFrame) -> str:
    """Describe training metrics: `8 seeds; 64 responses per buffer`."""
    settings = [json.loads(text) for text in metrics["settings"].unique()] if "settings" in metrics else []
    sizes = []
    for own in settings:
        if "prompts_per_buffer" in own and "group_size" in own:
            sizes.append(own["prompts_per_buffer"] * own["group_size"])
    responses = f"; {_span(pd.Series(sizes), 'response')} per buffer" if sizes else ""
    return f"{of_seeds(metrics)}{responses}."


def of_gaps(gaps: pd.DataFrame) -> str:
    """Describe the gaps of surrogates: `8 seeds; 64 tokens per step and seed`."""
    return f"{of_seeds(gaps)}; {_span(gaps['tokens'], 'token')} per step and seed."


def of_seeds(rows: pd.DataFrame) -> str:
    """Count the seeds of each method, variant and task; those of a base model apart if it has others."""
    counts = rows.groupby(["method", "variant", "task"])["seed"].nunique().reset_index()
    base = select(counts, method="base")["seed"]
    trained = counts[counts["method"] != "base"]["seed"]
    if trained.empty or base.empty or set(base) == set(trained):
        return _span(counts["seed"], "seed")
    if set(base) == {1}:
        return f"{_span(trained, 'seed')}, base model evaluated once"
    return f"{_span(trained, 'seed')}, base model {_span(base, 'seed')}"


def _span(counts: pd.Series, unit: str) -> str:
    """Format a number of something, or the least and the greatest: `8 seeds`, `3 to 8 seeds`."""
    low, high = int(counts.min()), int(counts.max())
    plural = "" if high == 1 else "s"
    number = f"{low}" if low == high else f"{low} to {high}"
    return f"{number} {unit}{plural}"
