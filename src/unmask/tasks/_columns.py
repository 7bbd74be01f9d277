"""Values in the rows of a source: the column under one of its names, checked as text or as a number."""

from __future__ import annotations

import re
from typing import Any

from unmask.tasks._files import Row


def column(row: Row, *names: str) -> Any:
    """Return the value in the first of these columns that is not null; names differ between sources of a data set.

    Raises ValueError if there is none.
    """
    for name in names:
        value = row.get(name)
        if value is not None:
            return value
    empty = [name for name in names if name in row]
    if empty:
        raise ValueError(f"{' and '.join(empty)} is null")
    raise ValueError(f"no column {' or '.join(names)} in a row with {', '.join(map(str, row))}")


def text(row: Row, *names: str) -> str:
    """Return the value in the first of these columns. Raises ValueError if it is not text that can be encoded."""
    value = column(row, *names)
    if not isinstance(value, str):
        raise ValueError(f"{' or '.join(names)} is {preview(value)}, not text")
    # JSON can hold a lone surrogate, which would only fail when the prepared data is written.
    value.encode()
    return value


def statement(row: Row, *names: str) -> str:
    """Return the text in the first of these columns. Raises ValueError if it is only white space."""
    found = text(row, *names)
    if not found.strip():
        raise ValueError(f"{' or '.join(names)} is empty")
    return found


def whole_number(value: Any) -> int:
    """Parse a non-negative integer of at most nine digits, or its text. Raises ValueError for anything else."""
    is_number_or_text = isinstance(value, int | str) and not isinstance(value, bool)
    digits = str(value) if is_number_or_text else ""
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", digits):
        raise ValueError(f"{preview(value)} is not a whole number of at most 9 digits")
    return int(digits)


def preview(value: Any) -> str:
    """Format a value for a message, cut to 60 characters."""
    return f"{value!a:.60}"
