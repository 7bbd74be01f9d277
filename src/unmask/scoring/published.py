"""The papers' protocol: extraction and scoring as in the scripts behind the published tables of d1 and DMPO.

Their quirks are reproduced (docs/method/scoring.md): "1,000" in a box is 1, a Sudoku board may overwrite its givens,
`**` is accepted as arithmetic. Use these scores only for comparison with published numbers.
"""

from __future__ import annotations

import re

from unmask.common.end_tokens import END
from unmask.scoring import Verdict
from unmask.scoring.arithmetic import evaluate, integers
from unmask.scoring.extraction import answer_text, boxed_terse, cut, last_box, simple_boxes
from unmask.scoring.math_normalizer import same

NUMBER = re.compile(r"-?\d+\.?\d*")
LONGEST_NUMBER = 1000  # characters; a float has at most 309 digits before the point, more are infinite
SUM = re.compile(r"[0-9+\-*/() ]+")
TEX_OPERATORS = (("\\div", "/"), ("\\times", "*"), ("\\cdot", "*"))
TOLERANCE = 1e-5


def gsm8k(response: str, gold: float | None) -> Verdict:
    """Compare the first number in a box, or else the last one in the answer tag, with the gold number, as floats."""
    number = _boxed_number(response)
    if number is None:
        tagged = answer_text(response) or ""
        number = _read_float(tagged, last=True)
    if number is None:
        return Verdict(None, 0)
    right = number == gold
    return Verdict(str(number), int(right))


def chain(response: str, gold: float | None) -> Verdict:
    """Score like GSM8K, which `chain` replaces at laptop scale."""
    return gsm8k(response, gold)


def math500(response: str, gold: str) -> Verdict:
    """Compare the last box, or else the answer tag, with the gold answer, as strings after normalisation."""
    answer = last_box(response)
    # `last_box` returns the whole response if there is no box, so the tag only matters for an empty or unclosed one.
    if not answer:
        tagged = answer_text(response)
        if tagged is not None:
            answer = tagged
    right = answer is not None and same(answer, gold)
    return Verdict(answer, int(right))


def countdown(response: str, numbers: list[int], target: int) -> Verdict:
    """Check that the expression uses exactly the numbers and has the target as its value, within 1e-5."""
    expression = countdown_expression(response)
    # Every run of digits counts as a number, also within a decimal: `3.4*5` uses 3, 4 and 5.
    used = integers(expression)
    if used is None or sorted(used) != sorted(numbers):
        return Verdict(expression, 0)
    value = evaluate(expression, python=True)
    right = value is not None and abs(value - target) < TOLERANCE
    return Verdict(expression, int(right))


def terse_countdown(response: str, numbers: list[int], target: int) -> Verdict:
    """Score the terse form of tiny models, `12-04` in answer tags, like `countdown`."""
    return countdown(boxed_terse(response), numbers, target)


def sudoku(response: str, puzzle: str, solution: str) -> Verdict:
    """Count the correct blank cells; given cells are ignored."""
    written = sudoku_board(response)
    # The scripts pad a short board with zeros and cut a long one: neither loses points for its correct cells.
    board = written.ljust(16, "0")[:16]
    blanks = [cell for cell, given in enumerate(puzzle) if given == "0"]
    right = sum(board[cell] == solution[cell] for cell in blanks)
    return Verdict(written or None, right, total=len(blanks))


def simplify(response: str, gold: str) -> Verdict:
    """Compare the answer tag with the gold answer as strings, as for MATH500, which `simplify` replaces."""
    answer = answer_text(cut(response))
    return Verdict(answer, int(answer == gold))


def countdown_expression(response: str) -> str:
    """Extract the expression: the last box, or else the answer tag or the text, up to an equals sign."""
    text = last_box(response)
    if text is None:
        text = answer_text(response)
    if text is None:
        text = response
    for name, symbol in TEX_OPERATORS:
        text = text.replace(name, symbol)

    # What precedes `= number` is the expression. Looking for `=` after each match takes linear time; a single pattern
    # that ends in `=` would take quadratic time on long runs of digits.
    for found in SUM.finditer(text):
        following = text[found.end() : found.end() + 2]
        if re.match(r"=[0-9. ]", following):
            return found.group().strip()
    return text


def sudoku_board(response: str) -> str:
    """Extract the board as written, without white space; "" if there is none."""
    # The scripts try five places in this order and take the first that is not empty, whatever it holds.
    for text in (_fenced(response), _tagged(response), _after_tag(response)):
        if text.strip():
            return "".join(text.split())
    digits = re.search(r"(\d{16})\s*</answer>", response) or re.search(r"\b(\d{16})\b", response)
    if digits is None:
        return ""
    return digits.group(1)


def _boxed_number(response: str) -> float | None:
    """Return the number in the first box that has one, skipping empty boxes and dots."""
    for box in simple_boxes(response):
        content = box.strip()
        if not content.strip("."):
            continue
        number = _read_float(content, last=False)
        if number is not None:
            return number
    return None


def _read_float(text: str, *, last: bool) -> float | None:
    """Parse the text as a float, or else return the first or last number in it."""
    try:
        return float(text[:LONGEST_NUMBER])
    except ValueError:
        numbers = NUMBER.findall(text)
    if not numbers:
        return None
    number = numbers[-1] if last else numbers[0]
    return float(number[:LONGEST_NUMBER])


def _fenced(response: str) -> str:
    """Return the content of a code fence after the answer tag, if it is only digits and white space."""
    _, _, rest = response.partition("<answer>")
    found = re.search(r"```([\d\s]+)```", rest)
    if found is None:
        return ""
    return found.group(1)


def _tagged(response: str) -> str:
    """Return the text from the answer tag to its closing tag or the first end token, "" if neither follows."""
    _, _, rest = response.partition("<answer>")
    inside, *closed = re.split(f"{END.pattern}|</answer>", rest, maxsplit=1)
    return inside if closed else ""


def _after_tag(response: str) -> str:
    """Return the text after the closing answer tag, up to the first end token."""
    _, _, rest = response.partition("</answer>")
    return cut(rest)
