r"""String normalisation behind the published MATH500 scores.

It is purely textual: two answers are equal if they are the same string after a fixed list of rewrites. If a rewrite
fails on either side (`\frac` at the end, `x/2`, two units), the raw strings are compared.
"""

from __future__ import annotations

import re

LONGEST = 10_000  # characters; a longer answer is compared without normalisation
REMOVED_FIRST = ("\n", "\\!")
RENAMED = (("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"))
REMOVED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")


class FormError(ValueError):
    """Answer that the rewrites cannot handle."""


def same(answer: str, gold: str) -> bool:
    """Return True if two answers are equal according to the published scores."""
    try:
        return normal(answer) == normal(gold)
    except FormError:
        return answer == gold


def normal(text: str) -> str:
    """Return the normal form of a LaTeX answer. Raises FormError if there is none."""
    if len(text) > LONGEST:
        raise FormError(text[:40])

    # The order of the rewrites matters, and is that of the published code.
    for piece in REMOVED_FIRST:
        text = text.replace(piece, "")
    for old, new in RENAMED:
        text = text.replace(old, new)
    for piece in REMOVED:
        text = text.replace(piece, "")
    text = _without_unit(text).replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    text = _without_name(text)
    text = _braced_roots(text).replace(" ", "")
    text = _braced_fractions(text)
    # 0.5 is the only decimal that equals a fraction here; 0.25 and 1/4 differ.
    if text == "0.5":
        text = "\\frac{1}{2}"
    return _as_fraction(text)


def _without_unit(text: str) -> str:
    r"""Cut off `\text{ …` at the end. Raises FormError if it occurs twice."""
    parts = text.split("\\text{ ")
    if len(parts) > 2:
        raise FormError("two units")
    return parts[0]


def _without_name(text: str) -> str:
    """Drop the name of a variable: `k=5` -> `5`, if at most two characters precede the only equals sign."""
    parts = text.split("=")
    has_name = len(parts) == 2 and len(parts[0]) <= 2
    return parts[1] if has_name else text


def _braced_roots(text: str) -> str:
    r"""Put the argument of a root in braces: `\sqrt3` -> `\sqrt{3}`."""
    first, *others = text.split("\\sqrt")
    done = first
    for part in others:
        if not part:
            raise FormError("a root of nothing")
        done += "\\sqrt"
        done += part if part[0] == "{" else f"{{{part[0]}}}{part[1:]}"
    return done


def _braced_fractions(text: str) -> str:
    r"""Put the arguments of fractions in braces: `\frac12` and `\frac1{72}` -> `\frac{1}{2}` and `\frac{1}{72}`."""
    first, *others = text.split("\\frac")
    done = first
    for part in others:
        if not part:
            raise FormError("a fraction of nothing")
        if part[0] == "{":
            done += "\\frac" + part
        # A fraction with only a numerator undoes the rewrites of all others, as in the published code.
        elif len(part) < 2:
            return text
        elif part[1] == "{":
            top, rest = part[0], part[1:]
            done += f"\\frac{{{top}}}{rest}"
        else:
            top, bottom, rest = part[0], part[1], part[2:]
            done += f"\\frac{{{top}}}{{{bottom}}}{rest}"
    return done


def _as_fraction(text: str) -> str:
    r"""Rewrite `3/4` as `\frac{3}{4}`. Raises FormError if a single slash is not between whole numbers."""
    parts = text.split("/")
    if len(parts) != 2:
        return text
    # The published code calls `int`; this is what it accepts.
    if not all(re.fullmatch(r"\s*[+-]?\d+(_\d+)*\s*", part) for part in parts):
        raise FormError("not a fraction of whole numbers")
    # The rewrite only applies if the numbers are written exactly as Python prints them: not for `03/4`.
    if not all(re.fullmatch(r"0|-?[1-9][0-9]*", part, re.ASCII) for part in parts):
        return text
    top, bottom = parts
    return f"\\frac{{{top}}}{{{bottom}}}"
