r"""Exact parsing of one number as people write it: `-3`, `1.5e3`, `2 \times 10^4`, `0.\overline{3}`, `2 1/2`.

All functions expect the plain spelling (spelling.py).
"""

from __future__ import annotations

import re
from fractions import Fraction

# Bounded, since converting long runs of digits takes quadratic time and Python refuses thousands of them.
DIGITS = "[0-9]{1,400}"
DECIMAL = rf"(?:{DIGITS}(?:\.[0-9]{{0,400}})?|\.{DIGITS})"
SIGNED = re.compile(r"([+-]?)\s*([^+\-\s].*)", re.DOTALL)
SCIENTIFIC = re.compile(
    rf"({DECIMAL})(?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{{?\s*([+-]?[0-9]{{1,3}})\s*\}}?|[eE]([+-]?[0-9]{{1,3}}))?"
)
POWER_OF_TEN = re.compile(r"10\s*\^\s*(?:\{\s*([+-]?[0-9]{1,3})\s*\}|([+-]?[0-9]{1,3}))")
# `0.\overline{3}`, `1.2\bar{6}`.
REPEATING = re.compile(rf"([0-9]{{0,400}})\.([0-9]{{0,400}})\\(?:overline|bar)\s*\{{({DIGITS})\}}")
ARGUMENT = rf"\s*(?:\{{\s*(-?\s*{DECIMAL})\s*\}}|([0-9]))"
FRACTION = rf"\\[dtc]?frac{ARGUMENT}{ARGUMENT}|(-?{DECIMAL})\s*/\s*(-?{DECIMAL})"
MIXED = re.compile(rf"({DIGITS})(?:\s*(?=\\)|\s+(?=[0-9]))({FRACTION})")
A_FRACTION = re.compile(FRACTION)


def exact(text: str) -> Fraction | None:
    """Parse the whole text as a number, None if it is anything else."""
    signed = SIGNED.fullmatch(text.strip())
    if signed is None:
        return None
    sign, rest = signed.groups()
    size = _size(rest.rstrip())
    if size is None:
        return None
    if sign == "-":
        return -size
    return size


def _size(text: str) -> Fraction | None:
    """Parse a number without a sign, None if the text is anything else."""
    if found := SCIENTIFIC.fullmatch(text):
        factor, power, exponent = found.groups()
        scale = Fraction(10) ** int(power or exponent or 0)
        return _decimal(factor) * scale
    if found := POWER_OF_TEN.fullmatch(text):
        braced, bare = found.groups()
        return Fraction(10) ** int(braced or bare)
    if A_FRACTION.fullmatch(text):
        return _fraction(text)
    if found := MIXED.fullmatch(text):
        whole, fraction, *_ = found.groups()
        return _mixed(whole, fraction)
    if found := REPEATING.fullmatch(text):
        whole, fixed, period = found.groups()
        return _repeating(whole, fixed, period)
    return None


def _mixed(whole: str, fraction: str) -> Fraction | None:
    """Return the value of a mixed number, which has a proper fraction: None for `2 3/2`."""
    part = _fraction(fraction)
    if part is None or not 0 < part < 1:
        return None
    return int(whole) + part


def _repeating(whole: str, fixed: str, period: str) -> Fraction:
    """Return the value of a decimal whose last digits, `period`, repeat for ever."""
    # The digits of a period of n are a multiple of 1 / (10ⁿ − 1).
    nines = 10 ** len(period) - 1
    shift = 10 ** len(fixed)
    repeated = Fraction(int(period), shift * nines)
    return _decimal(f"{whole}.{fixed}") + repeated


def _fraction(text: str) -> Fraction | None:
    """Return the value of a fraction, None if it divides by zero."""
    found = A_FRACTION.fullmatch(text)
    assert found is not None
    top, bottom = (_decimal(part) for part in found.groups() if part)
    if bottom == 0:
        return None
    return top / bottom


def _decimal(text: str) -> Fraction:
    digits = text.replace("-", "").strip()
    # A point may lack digits on either side.
    if "." in digits:
        digits = f"0{digits}0"
    size = Fraction(digits)
    if "-" in text:
        return -size
    return size
