"""Parsing of sums of terms such as `6a+2b`, the answers of the task `simplify`."""

from __future__ import annotations

import re
from collections import Counter

LONGEST = 200  # characters of a sum
TERM = re.compile(r"([+-]?)([0-9]{1,3})([a-z])", re.ASCII)


def coefficients(expression: str) -> dict[str, int] | None:
    """Return the collected non-zero coefficients by letter, None if the text is not a sum of terms."""
    if len(expression) > LONGEST:
        return None
    other_text = TERM.sub("", expression)
    if other_text:
        return None

    sums: Counter[str] = Counter()
    for sign, number, letter in TERM.findall(expression):
        sums[letter] += int(sign + number)
    return {letter: total for letter, total in sums.items() if total}
