"""The papers' protocol: how the scripts behind the published tables of d1 and DMPO read and judge an answer.

Facts, quirks included (docs/scoring.md): "1,000" in a box is 1, a Sudoku board may overwrite its givens,
`**` counts as arithmetic. Numbers under this protocol stand beside published ones, and nowhere else.
"""

from __future__ import annotations

import re

from unmask.scoring import Verdict
from unmask.scoring.arithmetic import evaluate, integers
from unmask.scoring.extraction import END, answer_text, boxed_terse, cut, last_box, simple_boxes
from unmask.scoring.normalise import same

NUMBER = re.compile(r"-?\d+\.?\d*")
LONGEST_NUMBER = 1000  # characters; a float has at most 309 digits before the point
SUM = re.compile(r"[0-9+\-*/() ]+")
TEX_OPERATORS = (("\\div", "/"), ("\\times", "*"), ("\\cdot", "*"))
TOLERANCE = 1e-5


def gsm8k(response: str, gold: float | None) -> Verdict:
    """Right if the first number found in a box, or else the answer tag's number, is the gold one as a float."""
    number = _boxed_number(response)
    if number is None:
        number = _read_float(answer_text(response) or "", last=True)
    return Verdict(None if number is None else str(number), int(number is not None and number == gold))


def chain(response: str, gold: float | None) -> Verdict:
    """As GSM8K, for which it stands."""
    return gsm8k(response, gold)


def math500(response: str, gold: str) -> Verdict:
    """Right if the last box, or else the answer tag, is the same string after normalising."""
    answer = last_box(response)
    if not answer:
        tagged = answer_text(response)
        answer = answer if tagged is None else tagged
    return Verdict(answer, int(answer is not None and same(answer, gold)))


def countdown(response: str, numbers: list[int], target: int) -> Verdict:
    """Right if the last box's expression uses exactly the numbers and has the target as its value."""
    expression = countdown_expression(response)
    right = False
    used = integers(expression)
    if used is not None and sorted(used) == sorted(numbers):
        value = evaluate(expression, python=True)
        right = value is not None and abs(value - target) < TOLERANCE
    return Verdict(expression, int(right))


def terse_countdown(response: str, numbers: list[int], target: int) -> Verdict:
    """The same for the form of tiny models, `12-04` in tags."""
    return countdown(boxed_terse(response), numbers, target)


def sudoku(response: str, puzzle: str, solution: str) -> Verdict:
    """Counts the blank cells filled right; what the answer says of the given cells does not matter."""
    written = sudoku_board(response)
    board = written.ljust(16, "0")[:16]
    blanks = [i for i, given in enumerate(puzzle) if given == "0"]
    return Verdict(written or None, sum(board[i] == solution[i] for i in blanks), len(blanks))


def simplify(response: str, gold: str) -> Verdict:
    """Right if the answer tag holds the same string (our stand-in for MATH500; no paper has it)."""
    answer = answer_text(cut(response))
    return Verdict(answer, int(answer == gold))


def countdown_expression(response: str) -> str:
    """The expression that is judged: the last box, or else the answer tag or the text, up to an equals sign."""
    text = last_box(response)
    if text is None:
        tagged = answer_text(response)
        text = response if tagged is None else tagged
    for name, symbol in TEX_OPERATORS:
        text = text.replace(name, symbol)
    for found in SUM.finditer(text):  # a pattern that ends in `=` would take quadratic time
        if re.match(r"=[0-9. ]", text[found.end() : found.end() + 2]):
            return found.group().strip()
    return text


def sudoku_board(response: str) -> str:
    """The board as written, white space removed; "" if none is found."""
    found = (text for text in (_fenced(response), _tagged(response), _after_tag(response)) if text.strip())
    text = next(found, None)
    if text is None:
        digits = re.search(r"(\d{16})\s*</answer>", response) or re.search(r"\b(\d{16})\b", response)
        text = digits.group(1) if digits else ""
    return "".join(text.split())


def _boxed_number(response: str) -> float | None:
    """The number in the first box that has one; empty boxes and dots are passed over."""
    contents = (box.strip() for box in simple_boxes(response))
    numbers = (_read_float(content, last=False) for content in contents if content.strip("."))
    return next((number for number in numbers if number is not None), None)


def _read_float(text: str, *, last: bool) -> float | None:
    """The text as a float, or else the first or last number in it."""
    try:
        return float(text[:LONGEST_NUMBER])
    except ValueError:
        found = NUMBER.findall(text)
    return float(found[-1 if last else 0][:LONGEST_NUMBER]) if found else None


def _fenced(response: str) -> str:
    """Digits and white space that fill a code fence after the answer tag."""
    _, _, rest = response.partition("<answer>")
    found = re.search(r"```([\d\s]+)```", rest)
    return found.group(1) if found else ""


def _tagged(response: str) -> str:
    """From the answer tag to the first of its end, an end of turn and an end of text."""
    _, _, rest = response.partition("<answer>")
    inside, *closed = re.split(f"{END.pattern}|</answer>", rest, maxsplit=1)
    return inside if closed else ""


def _after_tag(response: str) -> str:
    """From the end of the answer to the first end of turn or text, or to the end."""
    _, _, rest = response.partition("</answer>")
    return cut(rest)
