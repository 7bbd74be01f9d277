"""Exact evaluation of arithmetic expressions that a model wrote, without executing them.

`ast` parses the expression, and only the node types listed here are evaluated, with rational numbers. Length, depth and
the size of powers are bounded, so that any text takes at most a few milliseconds.
"""

from __future__ import annotations

import ast
import math
import re
from fractions import Fraction

LONGEST = 400  # characters; three numbers need twenty
DEEPEST = 100  # nested operations
MOST_BITS = 4096  # of a power's numerator or denominator
ALLOWED = re.compile(r"[0-9+\-*/().\s]+", re.ASCII)


def evaluate(text: str, *, python: bool = False) -> Fraction | None:
    """Return the value of `text`, None if it is not an expression of + - * / and parentheses over whole numbers.

    With `python`, decimals and Python's `**` and `//` are allowed too, as in the papers' scripts, which call `eval`.
    """
    text = text.strip()
    if len(text) > LONGEST or not ALLOWED.fullmatch(text):
        return None
    try:
        expression = ast.parse(text, mode="eval")
        return _value(expression.body, 0, python)
    except (SyntaxError, ArithmeticError, ValueError):
        return None


def integers(text: str) -> list[int] | None:
    """Return all whole numbers in the text in order, None if the text is too long to be an expression."""
    if len(text) > LONGEST:
        return None
    return [int(digits) for digits in re.findall(r"[0-9]+", text)]


def _value(node: ast.expr, depth: int, python: bool) -> Fraction:
    if depth > DEEPEST:
        raise ValueError("too deep")
    match node:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        # `str` gives the decimal that was written: 0.1 is 1/10 and not the nearest binary fraction.
        case ast.Constant(value=float(number)) if python and math.isfinite(number):
            return Fraction(str(number))
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=inner):
            value = _value(inner, depth + 1, python)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp(left=left, op=operator, right=right):
            return _combine(
                _value(left, depth + 1, python),
                operator,
                _value(right, depth + 1, python),
                python,
            )
    raise ValueError("not arithmetic")


def _combine(left: Fraction, operator: ast.operator, right: Fraction, python: bool) -> Fraction:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.FloorDiv() if python:
            return Fraction(left // right)
        case ast.Pow() if python:
            return _power(left, right)
    raise ValueError("not arithmetic")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    # Check the size before computing the power: `9**9**9` would take all memory.
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > MOST_BITS:
        raise ValueError("too large")
    power = base**exponent  # a Fraction for a whole exponent, else a float or complex number
    if isinstance(power, complex) or not math.isfinite(power):
        raise ValueError("not a number")
    return Fraction(power)
