r"""Conversion of answers to LaTeX that math-verify reads: `pi/2` -> `\pi/2`, `sqrt(51)` -> `\sqrt{51}`.

Answers that it would misread are detected here: math-verify parses what it understands and drops the rest.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from unmask.scoring.extraction import closing_brace

NAMES = re.compile(
    r"(?<![\\a-zA-Z])(sqrt|pi|theta|alpha|arcsin|arccos|arctan|sin|cos|tan|cot|sec|csc|log|ln|cup|pm|infty)(?![a-zA-Z])"
)
# Commands without an argument, which may themselves be one without braces: `\frac\pi2`, `\sqrt\pi`.
SYMBOL = r"\\(?:pi|theta|alpha|beta|gamma|delta|lambda|mu|phi|omega|sigma|infty)(?![a-zA-Z])"
SPELT = (
    (re.compile(r"\*\*"), "^"),
    (re.compile(r">="), r"\\ge "),
    (re.compile(r"<="), r"\\le "),
    (re.compile(r"!="), r"\\ne "),
    (re.compile(r"(?<![a-zA-Z\\])(?:infinity|inf|oo)(?![a-zA-Z])", re.IGNORECASE), r"\\infty "),
    # Between intervals both words mean a union; `3 to 4` is a ratio.
    (
        re.compile(r"(?<=[)\]])\s*(?:U|union|\\text\s*\{\s*(?:or|and|U)\s*\}|or)\s*(?=[(\[])"),
        r" \\cup ",
    ),
    (re.compile(r"([0-9])\s*(?:to|\\text\s*\{\s*to\s*\})\s*([0-9])"), r"\1:\2"),
    # People mean all digits of `2^10`, of which TeX takes one.
    (re.compile(r"\^\s*(-?[0-9]{2,})"), r"^{\1}"),
    # The comma of a list, since separators of thousands have been removed; math-verify would join the items.
    (re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))"), ", "),
    (re.compile(r"\\varnothing(?![a-zA-Z])"), r"\\emptyset "),
    (re.compile(r"\\mathrm\s*\{\s*([ei])\s*\}"), r"\1 "),
    # The command takes one digit.
    (re.compile(r"(?<![a-zA-Z\\])sqrt\s*([0-9]{2,}|[a-z])"), r"sqrt{\1}"),
    (re.compile(rf"\\sqrt\s*({SYMBOL})"), r"\\sqrt{\1}"),
    # Open intervals as some countries write them.
    (re.compile(r"\]([^()\[\]]*)\["), r"(\1)"),
)
FRACTION = re.compile(r"\\[dtc]?frac(?![a-zA-Z])")
BARE = re.compile(rf"\s*({SYMBOL}|[0-9a-zA-Z])(?P<more>[0-9]?)")  # what TeX takes for an argument without braces
ROOT = re.compile(r"\\sqrt\s*(?=\()")
DECIMAL = re.compile(r"([0-9]*)\.([0-9]+)")
# Changes of depth. One count for both kinds of brackets: `[0, 1)` is an interval.
BRACES = {"{": 1, "}": -1}
PARENTHESES = {"(": 1, ")": -1}
BRACKETS = {"(": 1, "[": 1, ")": -1, "]": -1}
INDEXED = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z][0-9]|\\(?:pi|theta)\s*[0-9]")  # `x1` is not a product
# math-verify would join `1 2` to 12, and misread `1.2.3`, `5_3` and an empty power.
MISREAD = re.compile(r"(?<!_)[0-9.]\s+[0-9.]|[0-9]\s*_|[_^]\s*\{\s*\}|\.[0-9]*\.")
PAIR = re.compile(r"([(\[])[^()\[\]]*,[^()\[\]]*([)\]])")
ELLIPSIS = re.compile(r"\\[lc]?dots|\.\.\.|…")
# An answer that says that it is rounded is not exact, whatever its value.
ROUNDED = re.compile(r"\\approx|\\sim(?![a-z])|≈|~")


def standard(text: str) -> str:
    """Convert plain spelling to LaTeX where it is unambiguous."""
    for pattern, replacement in SPELT:
        text = pattern.sub(replacement, text)
    text = NAMES.sub(r"\\\1 ", text)
    text = DECIMAL.sub(_as_fraction, text)
    return _braced_roots(text)


class Argument(NamedTuple):
    """Argument of a command, and the position after it."""

    text: str
    end: int


def braced_fractions(text: str) -> str:
    r"""Return the text with the arguments of its fractions in braces: `\frac\pi2` -> `\frac{\pi}{2}`.

    A fraction without two arguments stays as written, and so does `\frac{1}23`, which TeX sets as 1/2 times 3.
    """
    # From the right, so that a fraction in the argument of another is rewritten first.
    for command in reversed(list(FRACTION.finditer(text))):
        top = _argument(text, command.end())
        if top is None:
            continue
        bottom = _argument(text, top.end, last=True)
        if bottom is None:
            continue
        before = text[: command.end()]
        after = text[bottom.end :]
        text = f"{before}{{{top.text}}}{{{bottom.text}}}{after}"
    return text


def _argument(text: str, start: int, *, last: bool = False) -> Argument | None:
    """Return the argument of a command that begins at `start`, None if there is none; `last`: no other follows it."""
    rest = text[start:].lstrip()
    begin = len(text) - len(rest)
    if text.startswith("{", begin):
        end = closing_brace(text, begin)
        if end is None:
            return None
        return Argument(text[begin + 1 : end], end + 1)

    bare = BARE.match(text, start)
    if bare is None:
        return None
    if last and bare["more"] and bare[1].isdigit():
        return None
    return Argument(bare[1], bare.end(1))


def readable(gold: str, answer: str) -> bool:
    """Return True if math-verify can compare two texts: complete formulas, both with the same kind of collection."""
    if not _is_whole(gold) or not _is_whole(answer):
        return False
    if _is_set(gold) and _is_tuple(answer):
        return False
    if _is_tuple(gold) and _is_set(answer):
        return False
    if _in_other_brackets(gold, answer) or ROUNDED.search(answer):
        return False
    gold_is_open = ELLIPSIS.search(gold) is not None
    answer_is_open = ELLIPSIS.search(answer) is not None
    if gold_is_open != answer_is_open:
        return False
    # math-verify drops the sign of a derivative.
    return gold.count("'") == answer.count("'")


def _is_whole(text: str) -> bool:
    """Return True if all brackets are closed and no number would be read from digits that do not belong together."""
    # Braces and brackets are counted separately: `(0, 1]` may close differently, a group of LaTeX may not.
    depth = brackets = 0
    for sign in re.sub(r"\\[{}]", "", text):
        depth += BRACES.get(sign, 0)
        brackets += BRACKETS.get(sign, 0)
        if depth < 0:
            return False
    if depth != 0 or brackets != 0:
        return False
    if INDEXED.search(text) or MISREAD.search(text):
        return False
    return text.isascii()


def _in_other_brackets(gold: str, answer: str) -> bool:
    """Return True if both are pairs in different brackets; math-verify would ignore those of `[3,-7]`."""
    pair = PAIR.fullmatch(gold)
    other = PAIR.fullmatch(answer)
    if pair is None or other is None:
        return False
    return pair.groups() != other.groups()


def _is_set(text: str) -> bool:
    return text.startswith("\\{") and text.endswith("\\}")


def _is_tuple(text: str) -> bool:
    return text.startswith("(") and text.endswith(")") and "," in text


def _braced_roots(text: str) -> str:
    r"""Replace the parentheses of roots by braces: `\sqrt(x+1)` -> `\sqrt{x+1}`."""
    while found := ROOT.search(text):
        start = found.end()
        end = _closing(text, start)
        if end is None:
            return text
        before = text[: found.start()]
        inside = text[start + 1 : end]
        after = text[end + 1 :]
        text = f"{before}\\sqrt{{{inside}}}{after}"
    return text


def _as_fraction(decimal: re.Match[str]) -> str:
    r"""Convert a decimal to an exact fraction: `0.25` -> `\frac{25}{100}`. SymPy would compute with floats."""
    whole, rest = decimal.groups()
    top = int(whole + rest)
    bottom = 10 ** len(rest)
    return f"\\frac{{{top}}}{{{bottom}}}"


def _closing(text: str, start: int) -> int | None:
    """Return the position where the bracket that opens at `start` is closed, None if it never is."""
    depth = 0
    for place in range(start, len(text)):
        depth += PARENTHESES.get(text[place], 0)
        if depth == 0:
            return place
    return None
