"""Scoring of answers under two separate protocols.

`published` follows the scripts behind the papers' tables, including their quirks, so that numbers are comparable;
`strict` accepts what a careful reader would accept. Each has one pure function per benchmark,
`(response, gold) -> Verdict`, for any text: nothing that a model wrote is executed here (programs run in
unmask.sandbox only), and no answer takes more than a second. docs/method/scoring.md compares the protocols.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Verdict of one protocol on one response."""

    answer: str | None  # the extracted answer, None if there is none
    correct: int  # points: 1 for a correct answer; for Sudoku under `published`, the number of correct blank cells
    total: int = 1  # maximum of `correct`
    note: str = ""  # explanation, where the verdict needs one

    @property
    def share(self) -> float:
        """Points divided by their maximum, in [0, 1]."""
        return self.correct / self.total if self.total else 0.0
