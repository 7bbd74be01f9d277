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
from unmask.scoring.extraction import answer_text, boxed_terse, cut, final_answer
from unmask.scoring.quantities import only_number
from unmask.scoring.spelling import LONGEST, plain
from unmask.scoring.terms import coefficients

OPERATORS = (
    (re.compile(r"\\\*|\\(?:times|cdot|ast)(?![a-z])(?:\{\})?|(?<=[0-9)\s])[xX](?=[0-9(\s])"), "*"),
    (re.compile(r"\\div(?![a-z])"), "/"),
    (re.compile(r"\\[{}]|[\[\]]"), lambda found: "(" if found.group()[-1] in "{[" else ")"),
)
BOUND = re.compile("[<>!]=")
ARROW = re.compile(r"[-=]>|[→⇒]|\\(?:to|[Rr]ightarrow|implies)(?![a-zA-Z])")
SIMPLE_FRACTION = re.compile(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
# What has digits but is no cell: LaTeX of tables, "Row 1:", "the 4x4 board".
TABLE = re.compile(
    r"\\(?:begin|end)\s*\{[a-z*]*\}(?:\s*\{(?:[^{}]|\{[^{}]*\})*\})?|\\\\\[[^\]]*\]"
    r"|\\cline\s*\{[^{}]*\}|\\[a-z]+|\b(?:row|col(?:umn)?|line)\s*[0-9]\s*[:.)]?|\b4\s*[x×]\s*4\b",
    re.IGNORECASE,
)


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
    text = plain(answer, commas=False)
    for written, operator in OPERATORS:
        text = written.sub(operator, text)
    while text != (text := SIMPLE_FRACTION.sub(r"((\1)/(\2))", text)):
        pass
    return sides(text.replace("{", "(").replace("}", ")"), numbers)


def terse_countdown(response: str, numbers: list[int], target: int) -> Verdict:
    """The same for the form of tiny models, `12-04` in tags: digits and operators alone."""
    answer = final_answer(boxed_terse(response)) or ""
    return Verdict(answer, int(target in [evaluate(side) for side in sides(answer, numbers)]))


def sides(text: str, numbers: list[int]) -> list[str]:
    """The sides of an equation that use exactly these numbers."""
    return [side for side in text.split("=") if sorted(integers(side) or []) == sorted(numbers)]


def sudoku(response: str, puzzle: str, solution: str) -> Verdict:
    """Right if the board is solved and keeps the givens, also where another solution than the gold one does."""
    answer = final_answer(response)
    if answer is None:
        return Verdict(None, 0)
    board = cells(answer)
    if len(board) != 16:
        return Verdict(board, 0, note="not 16 digits")
    kept = all(given in ("0", digit) for given, digit in zip(puzzle, board, strict=True))
    return Verdict(board, int(is_solution(board, puzzle)), note="" if kept else "givens overwritten")


def cells(answer: str) -> str:
    """The digits of a board in order, however its rows are set apart: lines, commas, lists, tables."""
    return re.sub(r"\D", "", TABLE.sub(" ", answer[:LONGEST]))


def chain(response: str, gold: float | None) -> Verdict:
    """Right if the answer tag holds the one digit and nothing else, as the reward wants it (our stand-in for GSM8K)."""
    answer = answer_text(cut(response))
    digit = answer is not None and re.fullmatch("[0-9]", answer)
    return Verdict(answer, int(bool(digit) and gold == float(answer or "nan")))


def simplify(response: str, gold: str) -> Verdict:
    """Right if the answer is the same sum of terms, in any order (our stand-in for MATH500)."""
    answer = answer_text(cut(response))
    found = None if answer is None else coefficients(answer)
    return Verdict(answer, int(found is not None and found == coefficients(gold)))


def read_number(text: str) -> Fraction | None:
    """The one number that a text states: what follows its last equals sign, units and currency aside."""
    return (
        only_number(ARROW.sub("=", BOUND.sub(r"\\ge ", plain(text))).rpartition("=")[2])
        if len(text) <= LONGEST
        else None
    )
