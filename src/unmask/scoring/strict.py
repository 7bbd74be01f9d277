"""What a careful reader would count: one answer, read as a person reads it, wholly right or wrong.

The answer is the last box of the last answer tag, or what the tag holds (`extraction.final_answer`). Golds are the same
as for `published`; docs/scoring.md shows where the two protocols differ and why.
"""

from __future__ import annotations

import re
from fractions import Fraction

from unmask.boards import is_solution
from unmask.scoring import Verdict
from unmask.scoring.arithmetic import evaluate, integers
from unmask.scoring.equivalence import equivalent
from unmask.scoring.extraction import answer_text, cut, final_answer
from unmask.scoring.terms import coefficients

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
    values = [evaluate(side) for side in expressions(answer or "", numbers)]
    return Verdict(answer, int(target in values))


def expressions(answer: str, numbers: list[int]) -> list[str]:
    """The sides of the answer's equation that use exactly these numbers, with plain operators."""
    if len(answer) > LONGEST:
        return []
    for written, symbol in OPERATORS:
        answer = answer.replace(written, symbol)
    return [side for side in answer.split("=") if sorted(integers(side) or []) == sorted(numbers)]


def sudoku(response: str, puzzle: str, solution: str) -> Verdict:
    """Right if the board is solved and keeps the givens, also where another solution than the gold one does."""
    answer = final_answer(response)
    if answer is None:
        return Verdict(None, 0)
    board = re.sub(r"[\s`|+-]", "", answer)
    if len(board) != 16:
        return Verdict(board, 0, note="not 16 digits")
    kept = all(given in ("0", digit) for given, digit in zip(puzzle, board, strict=True))
    return Verdict(board, int(is_solution(board, puzzle)), note="" if kept else "givens overwritten")


def simplify(response: str, gold: str) -> Verdict:
    """Right if the answer is the same sum of terms, in any order (our stand-in for MATH500)."""
    answer = answer_text(cut(response))
    found = None if answer is None else coefficients(answer)
    return Verdict(answer, int(found is not None and found == coefficients(gold)))


def read_number(text: str) -> Fraction | None:
    """The one number that a text states: what follows its last equals sign, units and currency aside."""
    if len(text) > LONGEST:
        return None
    stated = text.rpartition("=")[2].strip(" $\n")
    for written, plain in (("{,}", ","), ("\\,", ""), ("\\!", ""), ("−", "-")):
        stated = stated.replace(written, plain)
    fraction = FRACTION.fullmatch(stated)
    if fraction:
        sign, *parts = fraction.groups()
        top, bottom = (int(part) for part in parts if part is not None)
        return Fraction(top, bottom) * (-1 if sign else 1) if bottom else None
    found = {Fraction(number.replace(",", "")) for number in NUMBER.findall(stated)}
    return found.pop() if len(found) == 1 else None
