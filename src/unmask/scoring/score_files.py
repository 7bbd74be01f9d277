"""Scoring of generations in files: records -> verdicts -> summary.

A record that cannot be parsed is broken: it gets a verdict with a note and no points, and is never silently dropped.
generation_files.py reads the files, gold_answers.py the records.
"""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from unmask.config.specs import RunSpec
from unmask.scoring import Verdict
from unmask.scoring.generation_files import BrokenError, read_records
from unmask.scoring.gold_answers import TASKS, points, understand

PROTOCOLS = ("published", "strict")
Understood = tuple[str, tuple[Any, ...]]  # a response, and the gold answer as arguments of the task's scorers
Labels = dict[str, object]  # keys of a record to group by, with their values


class Read(NamedTuple):
    """Record of a file with its labels, and what it says, or why it is broken."""

    line: int
    record: Any
    labels: Labels
    understood: Understood | BrokenError


class Summary(TypedDict):
    """Points over all records of one or several files."""

    task: str
    protocol: str
    correct: int
    total: int
    accuracy: float  # per cent


@dataclass(frozen=True)
class Scored:
    """Verdict on one record, with its location."""

    file: Path
    line: int  # line of a JSON lines file, otherwise the index of the record; both from 1
    verdict: Verdict
    broken: bool = False
    labels: Labels = field(default_factory=dict)
    stored: float | None = None  # grade stored in our own sample file, in [0, 1]

    @property
    def place(self) -> str:
        """Location as `file:line`, which editors can open."""
        return f"{self.file}:{self.line}"


def score(
    task: str,
    protocol: str,
    files: list[Path],
    prompt: str | None = None,
    by: tuple[str, ...] = (),
) -> list[Scored]:
    """Score all records, in order; a broken one gets no points and a note with the reason.

    `prompt` is the task setting under which the responses were generated (None: see `prompt_of`), `by` the keys of
    records to group by. Raises InputError if a file cannot be read.
    """
    scored: list[Scored] = []
    for file in files:
        scored += _scored(task, protocol, file, prompt or prompt_of(file), by)
    return scored


def _scored(task: str, protocol: str, file: Path, prompt: str, by: tuple[str, ...]) -> Iterator[Scored]:
    name = TASKS[task].scorer
    if task == "countdown" and prompt == "terse":
        name = "terse_countdown"
    rules = importlib.import_module(f"unmask.scoring.{protocol}")
    scorer: Callable[..., Verdict] = getattr(rules, name)
    for line, record, labels, understood in understood_records(task, file, by):
        if isinstance(understood, BrokenError):
            most = points(task, protocol, record)
            verdict = Verdict(None, 0, total=most, note=str(understood))
            yield Scored(file, line, verdict, broken=True, labels=labels)
            continue
        text, gold = understood
        verdict = scorer(text, *gold)
        # Only our own sample files hold grades; a key of this name in a file of others may mean anything.
        stored = record.get(protocol) if file.suffix == ".parquet" else None
        yield Scored(file, line, verdict, labels=labels, stored=stored)


def understood_records(task: str, file: Path, by: tuple[str, ...]) -> Iterator[Read]:
    """Yield the records of a file with their labels: the keys in `by`."""
    for line, record in read_records(file):
        known = dict(record) if isinstance(record, dict) else {}
        known["file"] = str(file)
        labels = {key: known.get(key) for key in by}
        lacking = [key for key in by if key not in known]
        try:
            understood = understand(task, record)
            if lacking:
                raise BrokenError(f"no {', '.join(lacking)} to group by; there are {', '.join(known)}")
        except BrokenError as error:
            yield Read(line, record, labels, error)
        else:
            yield Read(line, record, labels, understood)


def prompt_of(file: Path) -> str:
    """Return the setting `prompt` of our own samples, from the spec.yaml next to them; `chat` for any other file."""
    spec = file.with_name("spec.yaml")
    if file.suffix != ".parquet" or not spec.exists():
        return "chat"
    settings = RunSpec.read(spec).task_settings
    return settings.get("prompt", "chat")


def summary(task: str, protocol: str, scored: list[Scored]) -> Summary:
    """Sum the points over all records; the accuracy is in per cent, as in the papers."""
    correct = sum(record.verdict.correct for record in scored)
    total = sum(record.verdict.total for record in scored)
    accuracy = round(100 * correct / total, 2) if total else 0.0
    return {
        "task": task,
        "protocol": protocol,
        "correct": correct,
        "total": total,
        "accuracy": accuracy,
    }


def summaries(task: str, protocol: str, scored: list[Scored]) -> list[dict[str, object]]:
    """Return a summary with its labels for each group, in order of first appearance."""
    groups: defaultdict[str, list[Scored]] = defaultdict(list)
    for record in scored:
        name = json.dumps(record.labels, default=str)
        groups[name].append(record)

    found = []
    for group in groups.values():
        labels = group[0].labels
        found.append({**labels, **summary(task, protocol, group)})
    return found
