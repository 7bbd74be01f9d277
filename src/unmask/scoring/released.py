"""Training rewards of the released code, including its quirks: d1 (commit 837888f) and DMPO (commit 96af1a4).

Each function takes the same text as theirs, including the opening tag, and returns the parts of the reward. The two
repositories differ in one place, the check for a box (`math500`). docs/method/scoring.md lists the lines. Where they
call `eval` on a model's output, the expression is parsed here and computed with Python's numbers. Every rule takes
linear time.
"""

from __future__ import annotations

import ast
import re

from unmask.scoring.extraction import last_box
from unmask.scoring.math_normalizer import same

Number = int | float | complex

TAGS = ("<reasoning>\n", "\n</reasoning>\n", "\n<answer>\n", "\n</answer>")
JOINED = re.compile(r"</reasoning>\s*<answer>")
EXACT = re.compile(r"<reasoning>\n[^\n]*\n</reasoning>\n<answer>\n[^\n]*\n</answer>\n\n?")
ARITHMETIC = re.compile(r"[\d+\-*/().\s]+")
TOLERANCE = 1e-5
# Bounds on expressions, beyond which one has no value here; theirs may hang the training run.
LONGEST = 10_000  # characters
DEEPEST = 200  # nested operations
MOST_BITS = 1 << 20  # of a power


def gsm8k(text: str, gold: str) -> dict[str, float]:
    """Return up to 4.0: tags, loose and exact format without line breaks, an answer of digits, and the gold text."""
    inside = text.rpartition("<answer>")[2]
    answer = inside.partition("</answer>")[0].strip()
    is_exact = EXACT.fullmatch(text) is not None
    return {
        "tags": _tags(text),
        "loose_format": 0.5 * _is_loose(text),
        "exact_format": 0.5 * is_exact,
        "whole_number": 0.5 * answer.isdigit(),
        "correct": 2.0 * (answer == gold),
    }


def math500(text: str, gold: str, backspace: bool) -> dict[str, float]:
    """Return 2.0 for the right string, plus 1, 0.75, 0.5 or 0.25 for answer tag and box, tag only, box only or neither.

    With `backspace`, as in d1, the check for a box uses a pattern that begins with a backspace, which no answer has.
    """
    pieces = text.split("<answer>", 2)
    tagged = len(pieces) > 1
    place = pieces[1].partition("</answer>")[0] if tagged else text
    # "\boxed" without a raw string is a backspace followed by "oxed".
    box = "\boxed" if backspace else "\\boxed"
    answer = last_box(text)
    if answer is None:
        answer = text
    return {
        "format": 0.5 * tagged + (0.5 if box in place else 0.25),
        "correct": 2.0 * same(answer, gold),
    }


def countdown(text: str, numbers: list[int], target: float) -> dict[str, float]:
    """Return 1.0 if the last closed answer tag has a correct expression, 0.1 for any other content, 0 without a tag."""
    expression = _last_answer(text)
    if expression is None:
        return {"value": 0.0}
    value = evaluate(expression) if _uses(expression, numbers) else None
    right = value is not None and _is_close(value, target)
    return {"value": 1.0 if right else 0.1}


def sudoku(text: str, puzzle: str, solution: str) -> dict[str, float]:
    """Return the share of correct blank cells, read from all digits in the last closed answer tag."""
    answer = _last_answer(text) or ""
    digits = "".join(filter(str.isdigit, answer))
    blanks = [cell for cell, given in enumerate(puzzle) if given == "0"]
    # Slices, so that cells that a short board lacks are wrong.
    right = sum(digits[cell : cell + 1] == solution[cell] for cell in blanks)
    return {"cells": right / len(blanks) if blanks else 0.0}


def _tags(text: str) -> float:
    """Return 0.125 for each tag on its own line, minus 0.001 for each character after the answer, counted twice."""
    # `count` and `split` scan from the left without overlaps: of two tags that share a line break, the second is not
    # found.
    found = [text.count(tag) == 1 for tag in TAGS]
    earned = 0.125 * sum(found)
    # If no line break follows the closing tag, the first split does not find it and the whole text is penalised.
    if found[2]:
        earned -= 0.001 * len(text.split("\n</answer>\n")[-1])
    if found[3]:
        earned -= 0.001 * (len(text.split("\n</answer>")[-1]) - 1)
    return earned


def _is_loose(text: str) -> bool:
    """Return True if the text begins with a reasoning block and an answer block, neither with a line break inside."""
    if not text.startswith("<reasoning>"):
        return False

    # The reasoning must end on the first line, but `\s*` between the tags may cross lines. Checking two joins keeps the
    # time linear: of those that end on the first line, the first has all that follows the others; only the last join
    # can end on a later line.
    end = len(text.partition("\n")[0])
    joins = [join for join in JOINED.finditer(text, len("<reasoning>")) if join.start() < end]
    return any("</answer>" in text[join.end() :].partition("\n")[0] for join in joins[:1] + joins[-1:])


def _last_answer(text: str) -> str | None:
    """Return the stripped content of the last pair of answer tags, None if there is none."""
    found, rest = None, text
    while True:
        _, opened, rest = rest.partition("<answer>")
        inside, closed, rest = rest.partition("</answer>")
        if not opened or not closed:
            return found
        found = inside.strip()


def _uses(expression: str, numbers: list[int]) -> bool:
    """Return True if the runs of digits in the expression are exactly these numbers."""
    try:
        used = [int(digits) for digits in re.findall(r"\d+", expression)]
    except ValueError:  # more digits than Python converts
        return False
    return sorted(used) == sorted(numbers)


def _is_close(value: Number, target: float) -> bool:
    try:
        return abs(value - target) < TOLERANCE
    except OverflowError:
        return False


def evaluate(expression: str) -> Number | None:
    """Evaluate an expression of digits, + - * / ( ) and points as Python would; None if that fails."""
    if len(expression) > LONGEST or not ARITHMETIC.fullmatch(expression):
        return None
    try:
        return _value(ast.parse(expression, mode="eval").body, 0)
    except (SyntaxError, ArithmeticError, TypeError, ValueError, MemoryError, RecursionError):
        return None


def _value(node: ast.expr, depth: int) -> Number:
    if depth > DEEPEST:
        raise ValueError("too deep")
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner, depth + 1)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, depth + 1)
        case ast.BinOp(left=left, op=operator, right=right):
            return _combine(_value(left, depth + 1), operator, _value(right, depth + 1))
    raise ValueError("not a number")


def _combine(left: Number, operator: ast.operator, right: Number) -> Number:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.FloorDiv():
            return left // right  # type: ignore[operator]  # of complex numbers: a TypeError, as there
        case ast.Pow():
            return _power(left, right)
    raise ValueError("not arithmetic")


def _power(base: Number, exponent: Number) -> Number:
    # Only powers of integers can grow without bound; those of floats overflow with an error.
    if isinstance(base, int) and isinstance(exponent, int):
        bits = exponent * base.bit_length() if abs(base) > 1 else 0
        if bits > MOST_BITS:
            raise ValueError("too large")
    return base**exponent
