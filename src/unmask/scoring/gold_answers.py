"""Parsing of records of generations into the response and the gold answer in the form that the task's scorers expect.

A record has `question`, `generations` (the text) and `ground_truth`, as the d1 and DMPO repositories write them. Gold
answers come in several formats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from unmask.scoring.generation_files import BrokenError

Example = dict[str, Any]  # with the columns of a row of prepared data that a reward reads


def understand(task: str, record: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the response and the gold answer as the task's scorers take them. Raises BrokenError with the reason."""
    if isinstance(record, BrokenError):
        raise record
    if not isinstance(record, dict):
        raise BrokenError(f"a {type(record).__name__} instead of a record")
    missing = {"question", "generations", "ground_truth"} - record.keys()
    if missing:
        raise BrokenError(f"no {', '.join(sorted(missing))}")
    # Our own samples name their task; in files of others the key may be missing or mean something else.
    named = str(record.get("task", task))
    if named != task and named in TASKS:
        raise BrokenError(f"of task {record['task']}, not {task}")
    response = record["generations"]
    if not isinstance(response, str):
        raise BrokenError("generations is not text")
    gold = TASKS[task].parse(record["question"], record["ground_truth"])
    return response, gold


def example_of(task: str, record: Mapping[str, Any], gold: tuple[Any, ...]) -> Example:
    """Build the example of a parsed record, with the columns that the reward of its task reads."""
    question = str(record["question"])
    match task:
        case "gsm8k" | "chain":
            return {"question": question, "answer": _number_text(record["ground_truth"])}
        case "countdown":
            numbers, target = gold
            return {"question": question, "numbers": numbers, "target": target}
        case "sudoku":
            puzzle, solution = gold
            return {"question": puzzle, "answer": solution}
    return {"question": question, "answer": gold[0]}


def _number_text(truth: Any) -> str:
    """Format a gold number as in GSM8K's own file: 18 where a record has 18.0; "" for None."""
    # The released reward compares this text with the answer tag's, so "18.0" would never match.
    if truth is None:
        return ""
    if isinstance(truth, str):
        _, _, stated = truth.rpartition("####")
        return stated.strip()
    number = float(truth)
    if number.is_integer():
        return str(int(number))
    return str(number)


def points(task: str, protocol: str, record: Any) -> int:
    """Return the maximum points of a broken record, so that it counts as fully wrong in an accuracy."""
    if task != "sudoku" or protocol == "strict":
        return 1
    # Published Sudoku counts blank cells; if the puzzle cannot be read, assume all 16.
    match record:
        case {"question": question}:
            puzzle = _puzzle(question)
        case _:
            puzzle = None
    if puzzle is None:
        return 16
    return puzzle.count("0")


def _gsm8k(question: Any, truth: Any) -> tuple[float | None]:
    """Parse a gold number. It is None where the repositories failed to parse it; every answer is then wrong."""
    # `float` would accept True as 1.0.
    if isinstance(truth, bool):
        raise BrokenError("ground_truth is not a number")
    if truth is None:
        return (None,)
    if isinstance(truth, str):
        _, _, stated = truth.rpartition("####")
        truth = stated.replace(",", "")
    try:
        number = float(truth)
    except (TypeError, ValueError, OverflowError) as error:
        raise BrokenError("ground_truth is not a number") from error
    if not math.isfinite(number):
        raise BrokenError("ground_truth is not finite")
    return (number,)


def _text(question: Any, truth: Any) -> tuple[str]:
    if isinstance(truth, bool) or not isinstance(truth, str | int | float):
        raise BrokenError("ground_truth is not an answer")
    return (str(truth),)


def _countdown(question: Any, truth: Any) -> tuple[list[int], int]:
    """Parse the numbers and the target from [numbers, target], or else from the question."""
    match truth:
        case [list(numbers), target]:
            pass
        case _:
            numbers, target = _stated_puzzle(question)
    for number in (*numbers, target):
        if not isinstance(number, int | float) or not abs(number) <= LARGEST:
            raise BrokenError("ground_truth is not [numbers, target]")
    return numbers, target


def _stated_puzzle(question: Any) -> tuple[list[int], int]:
    text = question if isinstance(question, str) else ""
    found = re.search(r"Numbers: \[([0-9, ]+)\]\s*Target: ([0-9]+)", text)
    if found is None:
        raise BrokenError("ground_truth is not [numbers, target]")
    numbers, target = found.groups()
    # Cut long runs of digits: Python refuses to convert thousands of them. Such numbers exceed LARGEST anyway.
    runs = re.findall("[0-9]+", numbers[:LONGEST])
    return [int(digits) for digits in runs], int(target[:LONGEST])


def _sudoku(question: Any, truth: Any) -> tuple[str, str]:
    """Parse the puzzle from the question, and check its solution."""
    puzzle = _puzzle(question)
    if puzzle is None:
        raise BrokenError("no 16-digit puzzle in the question")
    if "0" not in puzzle:
        raise BrokenError("no blank cell (0) in the puzzle")
    if not re.fullmatch("[1-4]{16}", str(truth)):
        raise BrokenError("ground_truth is not a solved board")
    return puzzle, str(truth)


def _puzzle(question: Any) -> str | None:
    text = question if isinstance(question, str) else ""
    found = re.match("[0-9]{16}", text) or re.search("Sudoku puzzle: ([0-9]{16})", text)
    if found is None:
        return None
    return found.group()[-16:]


LARGEST = 10**15  # of a Countdown puzzle's numbers; the comparison also rejects NaN and infinities
LONGEST = 400  # characters


class Scoring(NamedTuple):
    """How a task is scored."""

    scorer: str  # name of its function in both protocols
    parse: Callable[[Any, Any], tuple[Any, ...]]  # from question and ground_truth to the gold answer


TASKS = {
    "gsm8k": Scoring("gsm8k", _gsm8k),
    "math500": Scoring("math500", _text),
    "countdown": Scoring("countdown", _countdown),
    "sudoku": Scoring("sudoku", _sudoku),
    "chain": Scoring("chain", _gsm8k),
    "simplify": Scoring("simplify", _text),
}
