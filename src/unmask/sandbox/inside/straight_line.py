"""Interpreter of the straight-line language: `a=x+3;b=a*2;c=b-1`, the value of a program being that of its last line.

A line assigns the sum, difference or product of two operands to a letter; operands are whole numbers of at most three
digits, earlier letters, and the argument x. There are no loops, so a program takes as many steps as it has lines. This
file runs inside the sandbox and imports nothing of the project.
"""

from __future__ import annotations

import operator
import re

LINE = re.compile(r"([a-wyz])=([a-z]|[0-9]{1,3})([-+*])([a-z]|[0-9]{1,3})")
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
LONGEST = 64  # lines
LARGEST = 10**12  # of a value, in size
Line = tuple[str, str, str, str]  # letter, left operand, operation, right operand


def parse(text: str) -> list[Line]:
    """Return the lines of a program. Raises SyntaxError if one has another form or uses a letter without a value."""
    known = {"x"}
    lines: list[Line] = []
    written = text.strip().removesuffix(";").split(";")
    if len(written) > LONGEST:
        raise SyntaxError(f"more than {LONGEST} lines")
    for line in written:
        found = LINE.fullmatch(line.strip())
        if found is None:
            raise SyntaxError(f"no line of the form a=x+3: {line!r:.40}")
        letter, left, operation, right = found.groups()
        for operand in (left, right):
            if operand.isalpha() and operand not in known:
                raise SyntaxError(f"{operand} has no value yet")
        known.add(letter)
        lines.append((letter, left, operation, right))
    return lines


def run(lines: list[Line], x: int) -> int:
    """Return the value of the last line for an argument. Raises OverflowError if a value exceeds LARGEST."""
    values = {"x": x}
    result = x
    for letter, left, operation, right in lines:
        one, other = (values[operand] if operand.isalpha() else int(operand) for operand in (left, right))
        result = OPERATIONS[operation](one, other)
        if abs(result) > LARGEST:
            raise OverflowError(f"{letter} exceeds {LARGEST}")
        values[letter] = result
    return result
