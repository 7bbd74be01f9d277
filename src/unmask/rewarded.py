"""The training rewards of generations from files: what a reward function would have paid for each.

A record whose gold answer is null, as the repositories leave it where they could not read it, has no right answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from unmask.files import InputError
from unmask.scoring.generations import prompt_of, understood_records
from unmask.scoring.golds import example_of
from unmask.scoring.records import BrokenError
from unmask.tasks import Task, blaming, load, task_class

# What the command line calls a reward function -> the setting `rewards` of a task.
REWARDS = {"corrected": "corrected", "released:d1": "released_d1", "released:dmpo": "released_dmpo"}
NOTHING = "0"  # stands for a gold answer that is null


@dataclass(frozen=True)
class Rewarded:
    """The parts of the reward of one record; none if it is broken."""

    file: Path
    line: int  # of JSON lines; elsewhere the number of the record, from 1
    parts: dict[str, float]
    labels: dict[str, Any] = field(default_factory=dict)  # what it is grouped by
    note: str = ""  # what is wrong with a broken record

    @property
    def total(self) -> float:
        """The reward: the sum of its parts."""
        return sum(self.parts.values())

    @property
    def broken(self) -> bool:
        """Whether the record could not be understood."""
        return bool(self.note)

    @property
    def place(self) -> str:
        """`file:line`, as editors understand it."""
        return f"{self.file}:{self.line}"


def reward(
    task: str, rewards: str, files: list[Path], prompt: str | None = None, by: tuple[str, ...] = ()
) -> list[Rewarded]:
    """The rewards of all records, in order, by one of `REWARDS`; the other arguments are those of `generations.score`.

    Raises InputError if a file cannot be read, or if the released codes have no reward for the task.
    """
    found: list[Rewarded] = []
    for file in files:
        found += _rewarded(task_with(task, rewards, prompt or prompt_of(file)), task, file, by)
    return found


def task_with(name: str, rewards: str, prompt: str = "chat") -> Task:
    """The task with the settings that its reward reads."""
    known = {one.name for one in fields(task_class(name))}
    if rewards != "corrected" and "rewards" not in known:
        raise InputError(f"--reward {rewards}: d1 and DMPO have no reward for {name}; take corrected")
    read = {"prompt": prompt, "rewards": REWARDS[rewards]}
    return load(name, dict.fromkeys(known) | {key: value for key, value in read.items() if key in known})


def _rewarded(task: Task, name: str, file: Path, by: tuple[str, ...]) -> Iterator[Rewarded]:
    for line, record, labels, understood in understood_records(name, file, by):
        if isinstance(understood, BrokenError):
            yield Rewarded(file, line, {}, labels, str(understood))
            continue
        text, gold = understood
        example = example_of(name, record, gold)
        unknown = gold == (None,)
        if unknown:
            example["answer"] = NOTHING
        with blaming(task, text, example):
            parts = task.reward(text, example)
        yield Rewarded(file, line, parts | ({"correct": 0.0} if unknown else {}), labels)


def summary(task: str, rewards: str, rewarded: list[Rewarded]) -> dict[str, Any]:
    """The mean reward over all records, and that of each part."""
    names = dict.fromkeys(name for one in rewarded for name in one.parts)
    parts = {name: _mean([one.parts.get(name, 0.0) for one in rewarded]) for name in names}
    mean = _mean([one.total for one in rewarded])
    return {"task": task, "reward": rewards, "records": len(rewarded), "mean": mean, "parts": parts}


def summaries(task: str, rewards: str, rewarded: list[Rewarded]) -> list[dict[str, Any]]:
    """A summary with its labels for each group, in the order of their first records."""
    groups: dict[str, list[Rewarded]] = {}
    for one in rewarded:
        groups.setdefault(json.dumps(one.labels, default=str), []).append(one)
    return [group[0].labels | summary(task, rewards, group) for group in groups.values()]


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 9)
