"""Training rewards of stored generations: the reward that each record would have received.

The d1 and DMPO repositories store a null gold answer where they failed to parse it; no answer to such a record is
correct.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypedDict

from unmask.common.errors import InputError
from unmask.scoring.generation_files import BrokenError
from unmask.scoring.gold_answers import example_of
from unmask.scoring.score_files import prompt_of, understood_records
from unmask.tasks import Task, blaming, load, task_class

# Name on the command line -> value of the task setting `rewards`.
REWARDS = {"corrected": "corrected", "released:d1": "released_d1", "released:dmpo": "released_dmpo"}
NOTHING = "0"  # placeholder for a gold answer that is null
Labels = dict[str, Any]  # keys to group by, with their values


class Summary(TypedDict):
    """Mean reward of some records, and the mean of each of its parts."""

    task: str
    reward: str
    records: int
    mean: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Rewarded:
    """Reward of one record by parts; no parts if the record is broken."""

    file: Path
    line: int  # line of a JSON lines file, otherwise the index of the record; both from 1
    parts: dict[str, float]
    labels: Labels = field(default_factory=dict)
    note: str = ""  # the reason why a record is broken

    @property
    def total(self) -> float:
        """Reward: the sum of its parts."""
        return sum(self.parts.values())

    @property
    def broken(self) -> bool:
        """True if the record could not be parsed."""
        return bool(self.note)

    @property
    def place(self) -> str:
        """Location as `file:line`, which editors can open."""
        return f"{self.file}:{self.line}"


def reward(
    task: str, rewards: str, files: list[Path], prompt: str | None = None, by: tuple[str, ...] = ()
) -> list[Rewarded]:
    """Compute the rewards of all records, in order, under one of `REWARDS`.

    The other arguments are those of `score_files.score`. Raises InputError if a file cannot be read, or if the released
    code has no reward for the task.
    """
    found: list[Rewarded] = []
    for file in files:
        loaded = task_with(task, rewards, prompt or prompt_of(file))
        found += _rewarded(loaded, task, file, by)
    return found


def task_with(name: str, rewards: str, prompt: str = "chat") -> Task:
    """Return the task with only the settings that its reward reads. Raises InputError as `reward` does."""
    # Settings that only concern the data (sources, sizes, seeds) are unknown here and stay None.
    settings: dict[str, Any] = dict.fromkeys(setting.name for setting in fields(task_class(name)))
    if rewards != "corrected" and "rewards" not in settings:
        raise InputError(f"--reward {rewards}: d1 and DMPO have no reward for {name}; take corrected")

    if "prompt" in settings:
        settings["prompt"] = prompt
    if "rewards" in settings:
        settings["rewards"] = REWARDS[rewards]
    return load(name, settings)


def _rewarded(task: Task, name: str, file: Path, by: tuple[str, ...]) -> Iterator[Rewarded]:
    for line, record, labels, understood in understood_records(name, file, by):
        if isinstance(understood, BrokenError):
            yield Rewarded(file, line, {}, labels, str(understood))
            continue
        text, gold = understood
        example = example_of(name, record, gold)

        # Reward functions need some gold answer to compute the format parts; the placeholder could be matched by
        # accident, so the part for correctness is overridden below.
        unknown = gold == (None,)
        if unknown:
            example["answer"] = NOTHING
        with blaming(task, text, example):
            parts = task.reward(text, example)
        if unknown:
            parts = parts | {"correct": 0.0}
        yield Rewarded(file, line, parts, labels)


def summary(task: str, rewards: str, rewarded: list[Rewarded]) -> Summary:
    """Return the mean reward over all records and the mean of each part; broken records count as 0."""
    # A dict instead of a set: parts keep the order in which the task defines them.
    parts: dict[str, float] = {}
    for record in rewarded:
        parts |= dict.fromkeys(record.parts, 0.0)
    for name in parts:
        parts[name] = _mean([record.parts.get(name, 0.0) for record in rewarded])

    return {
        "task": task,
        "reward": rewards,
        "records": len(rewarded),
        "mean": _mean([record.total for record in rewarded]),
        "parts": parts,
    }


def summaries(task: str, rewards: str, rewarded: list[Rewarded]) -> list[dict[str, object]]:
    """Return a summary with its labels for each group, in order of first appearance."""
    groups: dict[str, list[Rewarded]] = {}
    for record in rewarded:
        key = json.dumps(record.labels, default=str)
        groups.setdefault(key, []).append(record)
    return [{**group[0].labels, **summary(task, rewards, group)} for group in groups.values()]


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 9)
