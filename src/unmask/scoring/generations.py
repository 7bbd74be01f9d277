"""Scoring generations that were made elsewhere: records -> verdicts -> one summary.

A record has `question`, `generations` (the text) and `ground_truth` (records.py says which files hold them). One that
cannot be understood is broken: it gets a verdict with a note and no points, and is never silently dropped.
"""

from __future__ import annotations

import importlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.scoring import Verdict
from unmask.scoring.records import BrokenError, read_records

TASKS = ("gsm8k", "math500", "countdown", "sudoku")
PROTOCOLS = ("published", "strict")


@dataclass(frozen=True)
class Scored:
    """The verdict on one record and where it stands."""

    file: Path
    line: int  # of JSON lines; elsewhere the number of the record, from 1
    verdict: Verdict
    broken: bool = False

    @property
    def place(self) -> str:
        """`file:line`, as editors understand it."""
        return f"{self.file}:{self.line}"


def score(task: str, protocol: str, files: list[Path]) -> list[Scored]:
    """The verdicts on all records, in order; a broken one gets no points and says why in its note."""
    judge = getattr(importlib.import_module(f"unmask.scoring.{protocol}"), task)
    found = []
    for file in files:
        for line, record in read_records(file):
            try:
                text, gold = understand(task, record)
                found.append(Scored(file, line, judge(text, *gold)))
            except BrokenError as error:
                found.append(Scored(file, line, Verdict(None, 0, _points(task, protocol, record), str(error)), True))
    return found


def summary(task: str, protocol: str, scored: list[Scored]) -> dict[str, Any]:
    """Points over all records; the accuracy in per cent, as the papers print it."""
    correct = sum(one.verdict.correct for one in scored)
    total = sum(one.verdict.total for one in scored)
    accuracy = round(100 * correct / total, 2) if total else 0.0
    return {"task": task, "protocol": protocol, "correct": correct, "total": total, "accuracy": accuracy}


def understand(task: str, record: Any) -> tuple[str, tuple[Any, ...]]:
    """The response and the gold answer in the form that the task's judges take. Raises BrokenError."""
    if isinstance(record, BrokenError):
        raise record
    if not isinstance(record, dict):
        raise BrokenError(f"a {type(record).__name__} where a record should be")
    missing = {"question", "generations", "ground_truth"} - record.keys()
    if missing:
        raise BrokenError(f"no {', '.join(sorted(missing))}")
    if not isinstance(record["generations"], str):
        raise BrokenError("generations is not text")
    return record["generations"], GOLDS[task](record["question"], record["ground_truth"])


def _gsm8k_gold(question: Any, truth: Any) -> tuple[float | None]:
    """A number; null where the repositories could not read their own gold answer, which counts as wrong for all."""
    if isinstance(truth, str):
        truth = truth.rpartition("####")[2].replace(",", "")
    try:
        number = None if truth is None else float(truth)
    except (TypeError, ValueError, OverflowError) as error:
        raise BrokenError("ground_truth is not a number") from error
    if number is not None and not math.isfinite(number):
        raise BrokenError("ground_truth is not finite")
    return (number,)


def _math500_gold(question: Any, truth: Any) -> tuple[str]:
    if isinstance(truth, bool) or not isinstance(truth, str | int | float):
        raise BrokenError("ground_truth is not an answer")
    return (str(truth),)


def _countdown_gold(question: Any, truth: Any) -> tuple[list[int], int]:
    """[numbers, target], or both from the question."""
    if isinstance(truth, list) and len(truth) == 2 and isinstance(truth[0], list):
        numbers, target = truth
    else:
        found = re.search(r"Numbers: \[([\d, ]+)\]\s*Target: (\d+)", question if isinstance(question, str) else "")
        numbers = [int(digits) for digits in re.findall(r"\d+", found.group(1))] if found else [None]
        target = int(found.group(2)) if found else None
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in (*numbers, target)):
        raise BrokenError("ground_truth is not [numbers, target]")
    return numbers, target


def _sudoku_gold(question: Any, truth: Any) -> tuple[str, str]:
    """The puzzle, from the question, and its solution."""
    puzzle = _puzzle(question)
    if puzzle is None:
        raise BrokenError("no 16-digit puzzle in the question")
    if not re.fullmatch("[1-4]{16}", str(truth)):
        raise BrokenError("ground_truth is not a solved board")
    return puzzle, str(truth)


GOLDS = {"gsm8k": _gsm8k_gold, "math500": _math500_gold, "countdown": _countdown_gold, "sudoku": _sudoku_gold}


def _puzzle(question: Any) -> str | None:
    text = question if isinstance(question, str) else ""
    found = re.match("[0-9]{16}", text) or re.search("Sudoku puzzle: ([0-9]{16})", text)
    return found.group()[-16:] if found else None


def _points(task: str, protocol: str, record: Any) -> int:
    """What a broken record could have earned: the blank cells of its puzzle if that can be read, else all 16."""
    if task != "sudoku" or protocol == "strict":
        return 1
    puzzle = _puzzle(record.get("question")) if isinstance(record, dict) else None
    return puzzle.count("0") if puzzle else 16
