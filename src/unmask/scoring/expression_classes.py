"""Classes of arithmetic expressions: two are in one class if they differ only in the order and grouping of terms and
factors, as `3+4*5`, `5*4+3` and `3-(-4)*5`. All classes for given numbers and a target are enumerated.

`a*1` and `a/1` are two classes, and so are expressions that are equal only because two numbers are.
"""

from __future__ import annotations

import ast
import itertools
import operator
from fractions import Fraction
from typing import Any

from unmask.scoring.arithmetic import evaluate

OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
# A normal form: a number, or ("+", parts) or ("*", parts), where parts are sorted pairs of 1 or -1 and a normal form
# of another kind. For a sum the first of a pair is the part's sign, for a product its exponent.
Form = Any
Signed = tuple[int, Form]  # 1 or -1, and a form


def class_of(text: str) -> str | None:
    """Return the name of an expression's class, itself an expression; None if the text has no value."""
    if evaluate(text) is None:
        return None
    return written(_of(ast.parse(text.strip(), mode="eval").body))


def classes(numbers: list[int]) -> dict[int, dict[str, str]]:
    """Return every class whose expressions use each number once, with an expression of it, by its whole value.

    Classes are in alphabetical order. Four numbers take about a tenth of a second, five a minute.
    """
    start = [(Fraction(number), str(number), (1, number)) for number in numbers]
    found: dict[int, dict[str, str]] = {}
    _search(start, found)
    return {value: dict(sorted(named.items())) for value, named in sorted(found.items())}


def sums(numbers: list[int]) -> dict[int, dict[str, str]]:
    """Return the classes of `classes` that need only + and −, with an expression of digits and signs alone.

    Added numbers come first, each part in falling order. A value that takes a negative first number is left out.
    """
    found: dict[int, dict[str, str]] = {}
    for signs in itertools.product((1, -1), repeat=len(numbers)):
        signed = sorted((sign * number for sign, number in zip(signs, numbers, strict=True)), reverse=True)
        if signed[0] < 0:
            continue
        # Falling order of the numbers that are taken away is rising order of their negatives.
        added = [number for number in signed if number > 0]
        taken = sorted(number for number in signed if number < 0)
        text = "+".join(map(str, added)) + "".join(map(str, taken))
        form = _sum([(1 if number > 0 else -1, abs(number)) for number in signed])
        found.setdefault(sum(signed), {})[written(form)] = text
    return {value: dict(sorted(named.items())) for value, named in sorted(found.items())}


def _search(items: list[tuple[Fraction, str, Signed]], found: dict[int, dict[str, str]]) -> None:
    """Combine two of the items in every way until one is left."""
    if len(items) == 1:
        ((value, text, form),) = items
        if value.denominator == 1:
            found.setdefault(int(value), {}).setdefault(written(form), text)
        return
    for i, j in itertools.combinations(range(len(items)), 2):
        rest = [item for place, item in enumerate(items) if place not in (i, j)]
        one, other = items[i], items[j]
        for left, sign, right in ((one, "+", other), (one, "-", other), (other, "-", one), (one, "*", other),
                                  (one, "/", other), (other, "/", one)):  # fmt: skip
            if sign == "/" and right[0] == 0:
                continue
            value = OPERATIONS[sign](left[0], right[0])
            text = f"{_grouped(left[1])}{sign}{_grouped(right[1])}"
            _search([*rest, (value, text, _combined(left[2], sign, right[2]))], found)


def _grouped(text: str) -> str:
    return text if text.isdigit() else f"({text})"


def _of(node: ast.expr) -> Signed:
    match node:
        case ast.Constant(value=int(number)):
            return 1, number
        case ast.UnaryOp(op=sign, operand=inner):
            own, form = _of(inner)
            return (-own if isinstance(sign, ast.USub) else own), form
        case ast.BinOp(left=left, op=symbol, right=right):
            written_as = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}[type(symbol)]
            return _combined(_of(left), written_as, _of(right))
    raise ValueError("not arithmetic")


def _combined(left: Signed, sign: str, right: Signed) -> Signed:
    if sign in "+-":
        return _sum([*_terms(left, 1), *_terms(right, 1 if sign == "+" else -1)])
    (left_sign, left_form), (right_sign, right_form) = left, right
    exponent = 1 if sign == "*" else -1
    return _product(left_sign * right_sign, [*_factors(left_form, 1), *_factors(right_form, exponent)])


def _terms(signed: Signed, sign: int) -> list[Signed]:
    own, form = signed
    if isinstance(form, tuple) and form[0] == "+":
        return [(sign * own * one, part) for one, part in form[1]]
    return [(sign * own, form)]


def _factors(form: Form, exponent: int) -> list[Signed]:
    if isinstance(form, tuple) and form[0] == "*":
        return [(exponent * one, part) for one, part in form[1]]
    return [(exponent, form)]


def _sum(terms: list[Signed]) -> Signed:
    """Return a sum whose first term is positive, with the sign that this takes."""
    ordered = sorted(terms, key=repr_of)
    sign = ordered[0][0]
    return sign, ("+", tuple(sorted(((sign * one, part) for one, part in ordered), key=repr_of)))


def _product(sign: int, factors: list[Signed]) -> Signed:
    return sign, ("*", tuple(sorted(factors, key=repr_of)))


def repr_of(part: Signed) -> tuple[str, int]:
    """Return the key by which parts are sorted: the form first, so that flipping all signs keeps the order of forms."""
    return repr(part[1]), -part[0]


def written(signed: Signed) -> str:
    """Return a form as an expression."""
    sign, form = signed
    if isinstance(form, int):
        return str(form) if sign == 1 else f"-{form}"
    kind, parts = form
    signs = {("+", 1): "+", ("+", -1): "-", ("*", 1): "*", ("*", -1): "/"}
    if kind == "+":
        text = "".join(signs[kind, sign * one] + _part(part) for one, part in parts)
        return text.removeprefix("+")
    # A product may begin with a divisor, which needs something to divide.
    first = next((place for place, (one, _) in enumerate(parts) if one == 1), None)
    assert first is not None, "a product has a factor, since one of the numbers is not below a fraction bar"
    rest = [signs[kind, one] + _part(part) for place, (one, part) in enumerate(parts) if place != first]
    return ("-" if sign == -1 else "") + _part(parts[first][1]) + "".join(rest)


def _part(form: Form) -> str:
    return str(form) if isinstance(form, int) else f"({written((1, form))})"
