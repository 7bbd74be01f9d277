"""Splits of stored rows, without duplicates or test problems in the training split. Dropped rows are reported."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from unmask.tasks._sources import Row, hold_out, place_of, preview, read_examples

SHOWN = 10  # maximum of row numbers listed in a message or manifest


@dataclass(frozen=True)
class Note:
    """Rows of a source with a defect; row numbers count from 1, and `dropped` tells if they were removed."""

    place: str
    what: str
    rows: list[int]
    dropped: bool

    def __str__(self) -> str:
        listed = ", ".join(map(str, self.rows[:SHOWN])) + (", …" if len(self.rows) > SHOWN else "")
        count = f"{len(self.rows)} row{'s' if len(self.rows) > 1 else ''}"
        return f"{self.place}: {count} {'dropped' if self.dropped else 'kept'}, {self.what}: {listed}"

    def to_json(self) -> dict[str, Any]:
        """Convert the note to the form in a manifest."""
        first = self.rows[:SHOWN]
        return {"place": self.place, "what": self.what, "count": len(self.rows), "rows": first, "dropped": self.dropped}


class Splits(dict[str, list[Row]]):
    """Examples by split, with notes on defective rows of their sources."""

    def __init__(self, splits: dict[str, list[Row]], notes: Iterable[Note] = ()) -> None:
        super().__init__(splits)
        self.notes = [note for note in notes if note.rows]


def stored_splits(
    train: dict[str, Any] | None,
    test: dict[str, Any] | None,
    make: Callable[[Row], Row],
    validation: int,
    seed: int,
    same: Callable[[str, str], bool] = operator.eq,
) -> Splits:
    """Return train, validation and test splits; training rows are distinct and contain no test problem.

    A source that is None has no split. `same` tells whether two gold answers are equal. Raises ValueError if a row is
    malformed, if repeated training problems have different gold answers, or if too few rows are left.
    """
    made, notes = {}, []
    tested = read_examples(test, "test", make) if test else []
    if train:
        examples = read_examples(train, "train", make)
        # Rows of the test set are dropped whatever their gold. Of the others the first would be kept, which may be the
        # wrong one, so the file has to be corrected.
        if differing := contradictions(examples, same, map(problem, tested)):
            raise ValueError(_contradicted(place_of(train, "train"), examples, differing))
        kept, dropped = distinct_rows(examples, problem, place_of(train, "train"), map(problem, tested))
        notes += dropped
        try:
            made["train"], made["validation"] = hold_out(kept, validation, seed)
        except ValueError as error:
            # Too few rows are left: the notes say how many were dropped before, and why.
            raise ValueError("; ".join([str(error), *(str(note) for note in dropped if note.rows)])) from error

    # Test problems stay exactly as published, for scores to be comparable; repeats are only reported.
    if test:
        notes.append(repeats(tested, problem, place_of(test, "test")))
        differing = contradictions(tested, same)
        what = "another gold answer than an earlier row with the same problem"
        notes.append(Note(place_of(test, "test"), what, [row for _, row in differing], False))
        made["test"] = tested
    return Splits(made, notes)


def problem(example: Row) -> str:
    """Return the key by which questions are compared: the question with normalised white space."""
    return " ".join(example["question"].split())


def contradictions(
    examples: list[Row], same: Callable[[str, str], bool], ignored: Iterable[Hashable] = ()
) -> list[tuple[int, int]]:
    """Return the pairs of rows, counted from 1, that have the same problem but different gold answers.

    The first row of a pair is the first with that problem. Problems in `ignored` are passed over.
    """
    first: dict[Hashable, int] = {}
    skipped, found = set(ignored), []
    for number, example in enumerate(examples, 1):
        if (name := problem(example)) not in skipped:
            earlier = first.setdefault(name, number)
            if not same(examples[earlier - 1]["answer"], example["answer"]):
                found.append((earlier, number))
    return found


def _contradicted(place: str, examples: list[Row], pairs: list[tuple[int, int]]) -> str:
    """Return the message about training rows that contradict each other, with the first of them."""
    golds = [preview(example["answer"]) for example in examples]
    listed = [
        f"rows {one} and {other} of train ({golds[one - 1]} and {golds[other - 1]})" for one, other in pairs[:SHOWN]
    ]
    more = f"; {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
    return (
        f"{place}: the same problem with different gold answers: {'; '.join(listed)}{more}. Correct or remove a row of "
        "each pair (of data on the hub in a copy, given with source: local)"
    )


def distinct_rows(
    rows: list[Any], key: Callable[[Any], Hashable], place: str, tested: Iterable[Hashable] = ()
) -> tuple[list[Any], list[Note]]:
    """Return the rows whose key is new and not in `tested`, in order, and notes on the dropped ones."""
    seen: set[Hashable] = set()
    kept, repeated, in_test, avoided = [], [], [], set(tested)
    for number, row in enumerate(rows, 1):
        name = key(row)
        if name in avoided:
            in_test.append(number)
        elif name in seen:
            repeated.append(number)
        else:
            kept.append(row)
        seen.add(name)
    return kept, [
        Note(place, "the same problem as in an earlier row", repeated, True),
        Note(place, "problems of the test set", in_test, True),
    ]


def repeats(rows: list[Any], key: Callable[[Any], Hashable], place: str) -> Note:
    """Report rows that repeat an earlier one, without dropping them."""
    _, (repeated, _) = distinct_rows(rows, key, place)
    return Note(place, repeated.what, repeated.rows, False)
