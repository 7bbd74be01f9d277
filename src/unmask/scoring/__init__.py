"""How answers are judged: two protocols that never share a verdict.

`published` follows the scripts behind the papers' tables, quirks included, so that numbers compare; `strict` says what
a careful reader would count. Both are one pure function a benchmark, `(response, gold) -> Verdict`, for any text at
all: nothing that a model wrote is ever run, and no answer costs more than a second. docs/scoring.md compares them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What a protocol says of one response."""

    answer: str | None  # what was read as the answer, None if nothing was
    correct: int  # points: 1 for a right answer; for `published` Sudoku the blank cells filled right
    total: int = 1  # points that could be had
    note: str = ""  # why, where the reader could not know

    @property
    def share(self) -> float:
        """Points as a share of what could be had."""
        return self.correct / self.total if self.total else 0.0
