"""Answers of the run browser: some of a run's answers to the test problems, right and wrong ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unmask.common.catalogue import sampler_name
from unmask.common.parquet import read_rows

FIRST = 24  # problems that every run shows, so that two runs can be compared
OF_EACH = 8  # right and wrong answers that a run shows at least, if it has them
COLUMNS = ["sampler", "length", "example", "prompt", "completion", "gold", "strict"]


@dataclass(frozen=True)
class Answer:
    """Answer to one test problem; `right` by the strict rules."""

    prompt: str
    gold: str
    completion: str
    right: bool


@dataclass(frozen=True)
class Answers:
    """Answers of a run with one sampler at one length, and how many of all there are were wrong."""

    setting: str  # such as `one token a step, 24 tokens`
    total: int
    wrong: int
    kept: tuple[Answer, ...]  # in the order of the problems


def read_answers(file: Path) -> Answers | None:
    """Read answers of a run with the first sampler and length of its samples; None if the file has none.

    Kept are those to the FIRST problems, and later ones until OF_EACH are right and OF_EACH wrong. Of several answers
    to a problem it is the first.
    """
    samples = read_rows(file, COLUMNS)
    if samples.empty:
        return None
    sampler, length = samples.iloc[0][["sampler", "length"]]
    same = (samples["sampler"] == sampler) & (samples["length"] == length)
    answers = samples[same].drop_duplicates("example")
    right = answers["strict"] == 1

    rank_in_grade = answers.groupby(right).cumcount()
    to_first_problems = pd.RangeIndex(len(answers)) < FIRST
    kept = answers[to_first_problems | (rank_in_grade < OF_EACH)]
    found = []
    for row in kept.to_dict("records"):
        answer = Answer(str(row["prompt"]), str(row["gold"]), str(row["completion"]), row["strict"] == 1)
        found.append(answer)
    return Answers(
        setting=f"{sampler_name(sampler)}, {length} tokens",
        total=len(answers),
        wrong=int((~right).sum()),
        kept=tuple(found),
    )
