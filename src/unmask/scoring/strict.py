"""The strict protocol: accept what a careful reader would accept, and count an answer as correct or not at all.

The answer is the last box of the last answer tag, or the content of the tag (`extraction.final_answer`). Gold answers
are those of `published`; docs/method/scoring.md shows where the two protocols differ and why.
"""

from __future__ import annotations

import re
from fractions import Fraction

from unmask.scoring import Verdict
from unmask.scoring.arithmetic import evaluate, integers
from unmask.scoring.equivalence import equivalent
from unmask.scoring.extraction import answer_text, boxed_terse, cut, final_answer, is_unfinished
from unmask.scoring.like_terms import coefficients
from unmask.scoring.quantities import readings
from unmask.scoring.spelling import LONGEST, plain
from unmask.scoring.sudoku_grids import is_solution, keeps_givens

# Spellings of operators and parentheses in Countdown answers; the letter x only multiplies between operands.
OPERATORS = (
    (re.compile(r"\\\*|\\(?:times|cdot|ast)(?![a-z])(?:\{\})?|(?<=[0-9)\s])[xX](?=[0-9(\s])"), "*"),
    (re.compile(r"\\div(?![a-z])"), "/"),
    (re.compile(r"\\\{|\["), "("),
    (re.compile(r"\\\}|\]"), ")"),
)
# `>=` must not be taken for an equals sign; an arrow acts as one.
BOUND = re.compile("[<>!]=")
ARROW = re.compile(r"[-=]>|[→⇒]|\\(?:to|[Rr]ightarrow|implies)(?![a-zA-Z])")
SIMPLE_FRACTION = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
# Text with digits that are not cells: LaTeX of tables, "Row 1:", "the 4x4 board".
TABLE = re.compile(
    r"\\(?:begin|end)\s*\{[a-z*]*\}(?:\s*\{(?:[^{}]|\{[^{}]*\})*\})?|\\\\\[[^\]]*\]"
    r"|\\cline\s*\{[^{}]*\}|\\[a-z]+|\b(?:row|col(?:umn)?|line)\s*[0-9]\s*[:.)]?|\b4\s*[x×]\s*4\b",
    re.IGNORECASE,
)


def gsm8k(response: str, gold: float | None) -> Verdict:
    """Check that the answer states one number and that it is exactly the gold one."""
    answer = final_answer(response, signed=True)
    if gold is None:
        return Verdict(answer, 0, note="no gold answer")
    if answer is None:
        return Verdict(None, 0)
    values = read_numbers(answer)
    if not values:
        return Verdict(answer, 0, note="not one number")
    right = Fraction(str(gold)) in values
    return Verdict(answer, int(right))


def math500(response: str, gold: str) -> Verdict:
    """Check that the answer is mathematically the gold one."""
    answer = final_answer(response, signed=True)
    if not answer:
        return Verdict(answer, 0)
    right, note = equivalent(gold, answer)
    return Verdict(answer, int(right), note=note)


def countdown(response: str, numbers: list[int], target: int) -> Verdict:
    """Check that a side of the answer's equation uses each number once with + - × ÷ and equals the target exactly."""
    answer = final_answer(response)
    values = [evaluate(side) for side in expressions(answer or "", numbers)]
    return Verdict(answer, int(target in values))


def expressions(answer: str, numbers: list[int]) -> list[str]:
    """Return the sides of the answer's equation that use exactly these numbers, with plain operators."""
    if len(answer) > LONGEST:
        return []
    # With `commas`, a list such as `3,400` would become one number.
    text = plain(answer, commas=False)
    for written, operator in OPERATORS:
        text = written.sub(operator, text)

    # Innermost fractions first, until none is left: the pattern cannot match nested braces.
    before = None
    while before != text:
        before = text
        text = SIMPLE_FRACTION.sub(r"((\1)/(\2))", text)
    text = text.replace("{", "(").replace("}", ")")
    return sides(text, numbers)


def terse_countdown(response: str, numbers: list[int], target: int) -> Verdict:
    """Score the terse form of tiny models, `12-04` in answer tags: only digits and operators."""
    answer = final_answer(boxed_terse(response)) or ""
    values = [evaluate(side) for side in sides(answer, numbers)]
    return Verdict(answer, int(target in values))


def sides(text: str, numbers: list[int]) -> list[str]:
    """Return the sides of an equation that use exactly these numbers."""
    found = []
    for side in text.split("="):
        used = integers(side) or []
        if sorted(used) == sorted(numbers):
            found.append(side)
    return found


def sudoku(response: str, puzzle: str, solution: str) -> Verdict:
    """Check that the board is solved and keeps the givens; any solution of the puzzle is correct."""
    answer = final_answer(response)
    if answer is None:
        return Verdict(None, 0)
    board = cells(answer)
    if len(board) != 16:
        return Verdict(board, 0, note="not 16 digits")
    if not keeps_givens(board, puzzle):
        return Verdict(board, 0, note="givens overwritten")
    right = is_solution(board, puzzle)
    return Verdict(board, int(right))


def cells(answer: str) -> str:
    """Return the digits of a board in order, whatever separates its rows: line breaks, commas, lists, tables."""
    text = TABLE.sub(" ", answer[:LONGEST])
    return re.sub(r"\D", "", text)


def chain(response: str, gold: float | None) -> Verdict:
    """Check that the answer tag holds exactly the correct digit, the only form that the task's reward accepts."""
    answer = answer_text(cut(response))
    if answer is None or not re.fullmatch("[0-9]", answer):
        return Verdict(answer, 0)
    return Verdict(answer, int(gold == float(answer)))


def simplify(response: str, gold: str) -> Verdict:
    """Check that the answer is the same sum of terms as the gold one, in any order."""
    answer = answer_text(cut(response))
    if answer is None:
        return Verdict(None, 0)
    found = coefficients(answer)
    right = found is not None and found == coefficients(gold)
    return Verdict(answer, int(right))


def read_numbers(text: str) -> set[Fraction]:
    """Return the values that a text may state after its last equals sign, units and currency aside; mostly one."""
    # A group that is cut off, `18^{`, may have been the beginning of any number.
    if len(text) > LONGEST or is_unfinished(text):
        return set()
    text = BOUND.sub(r"\\ge ", plain(text))
    text = ARROW.sub("=", text)
    _, _, last_side = text.rpartition("=")
    return readings(last_side)
