"""What a careful reader would count: one answer, read as a person reads it, wholly right or wrong.

The answer is the last box of the last answer tag, or what the tag holds (`extraction.final_answer`). Golds are the same
as for `published`; docs/scoring.md shows where the two protocols differ and why.
"""

from __future__ import annotations

import re
from fractions import Fraction

from unmask.scoring import Verdict
from unmask.scoring.arithmetic import evaluate, integers
from unmask.scoring.equivalence import equivalent
from unmask.scoring.extraction import final_answer

# Digits with or without separators of thousands (a comma, or LaTeX's `{,}` and `\,`), a decimal part, a fraction bar.
NUMBER = re.compile(r"(?<![0-9.])-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])-?\.[0-9]+")
FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?[0-9]{1,20})\}\{(-?[0-9]{1,20})\}|(-?[0-9]{1,20})\s*/\s*([0-9]{1,20})")
LONGEST = 1000  # characters of an answer
OPERATORS = (
    ("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("×", "*"), ("·", "*"), ("÷", "/"), ("−", "-"), ("–", "-"),
    ("\\left", ""), ("\\right", ""), ("$", ""), ("\\(", ""), ("\\)", ""),
)  # fmt: skip


def gsm8k(response: str, gold: float | None) -> Verdict:
    """Right if the one number that the answer states is the gold one, exactly."""
    answer = final_answer(response)
    number = None if answer is None else read_number(answer)
    if gold is None or answer is None:
        return Verdict(answer, 0, note="no gold answer" if gold is None else "")
    right = number is not None and number == Fraction(str(gold))
    return Verdict(answer, int(right), note="" if number is not None else "not one number")


def math500(response: str, gold: str) -> Verdict:
    """Right if the answer is mathematically the gold one."""
    answer = final_answer(response)
    if not answer:
        return Verdict(answer, 0)
    right, note = equivalent(gold, answer)
    return Verdict(answer, int(right), note=note)


def countdown(response: str, numbers: list[int], target: int) -> Verdict:
    """Right if a side of the answer's equation uses each number once with + - × ÷ and is exactly the target."""
    answer = final_answer(response)
    if answer is None or len(answer) > LONGEST:
        return Verdict(answer, 0, note="" if answer is None else "too long")
    plain = answer
    for written, symbol in OPERATORS:
        plain = plain.replace(written, symbol)
    sides = [side for side in plain.split("=") if sorted(integers(side) or []) == sorted(numbers)]
    return Verdict(answer, int(any(evaluate(side) == target for side in sides)))


def sudoku(response: str, puzzle: str, solution: str) -> Verdict:
    """Right if the whole board is right; with a unique solution that says that the givens are kept."""
    answer = final_answer(response)
    board = None if answer is None else re.sub(r"[\s`|+-]", "", answer)
    kept = board is not None and len(board) == 16 and all(g in ("0", b) for g, b in zip(puzzle, board, strict=True))
    note = "" if board is None or kept else "not 16 digits" if len(board) != 16 else "givens overwritten"
    return Verdict(board, int(board == solution), note=note)


def read_number(text: str) -> Fraction | None:
    """The one number that a text states: what follows its last equals sign, units and currency aside."""
    if len(text) > LONGEST:
        return None
    stated = text.rpartition("=")[2].replace("{,}", ",").replace("\\,", "").replace("\\!", "")
    fraction = FRACTION.search(stated)
    if fraction:
        sign, *parts = fraction.groups()
        top, bottom = (int(part) for part in parts if part is not None)
        return Fraction(top, bottom) * (-1 if sign else 1) if bottom else None
    found = {Fraction(number.replace(",", "")) for number in NUMBER.findall(stated)}
    return found.pop() if len(found) == 1 else None
