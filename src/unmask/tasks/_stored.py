"""Splits of stored rows, without duplicates or test problems in the training split. Dropped rows are reported."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

from unmask.tasks import question_of
from unmask.tasks._columns import preview
from unmask.tasks._files import Row
from unmask.tasks._sources import Block, hold_out, place_of, read_examples

SHOWN = 10  # maximum of row numbers listed in a message or manifest


class NoteEntry(TypedDict):
    """Note as in a manifest; `rows` are the first of `count`."""

    place: str
    what: str
    count: int
    rows: list[int]
    dropped: bool


@dataclass(frozen=True)
class Note:
    """Rows of a source with a defect; row numbers count from 1, and `dropped` tells if they were removed."""

    place: str
    what: str
    rows: list[int]
    dropped: bool

    def __str__(self) -> str:
        count = len(self.rows)
        listed = ", ".join(map(str, self.rows[:SHOWN]))
        if count > SHOWN:
            listed += ", …"
        rows = "row" if count == 1 else "rows"
        fate = "dropped" if self.dropped else "kept"
        return f"{self.place}: {count} {rows} {fate}, {self.what}: {listed}"

    def to_json(self) -> NoteEntry:
        """Convert the note to the form in a manifest."""
        return {
            "place": self.place,
            "what": self.what,
            "count": len(self.rows),
            "rows": self.rows[:SHOWN],
            "dropped": self.dropped,
        }


class Splits(dict[str, list[Row]]):
    """Examples by split, with notes on defective rows of their sources."""

    def __init__(self, splits: dict[str, list[Row]], notes: Iterable[Note] = ()) -> None:
        super().__init__(splits)
        self.notes = [note for note in notes if note.rows]


def stored_splits(
    train: Block | None,
    test: Block | None,
    make: Callable[[Row], Row],
    validation: int,
    seed: int,
    same: Callable[[str, str], bool] = operator.eq,
) -> Splits:
    """Return train, validation and test splits; training rows are distinct and contain no test problem.

    A source that is None has no split. `same` tells whether two gold answers are equal. Raises ValueError if a row is
    malformed, if repeated training problems have different gold answers, or if too few rows are left.
    """
    made: dict[str, list[Row]] = {}
    notes: list[Note] = []
    tested = read_examples(test, "test", make) if test else []
    if train:
        place = place_of(train, "train")
        examples = read_examples(train, "train", make)
        test_problems = {problem(example) for example in tested}
        # Rows of the test set are dropped whatever their gold. Of the others the first would be kept, which may be the
        # wrong one, so the file has to be corrected.
        differing = contradictions(examples, same, test_problems)
        if differing:
            raise ValueError(_contradicted(place, examples, differing))
        kept, dropped = distinct_rows(examples, problem, place, test_problems)
        notes += dropped
        try:
            made["train"], made["validation"] = hold_out(kept, validation, seed)
        except ValueError as error:
            # Too few rows are left: the notes say how many were dropped before, and why.
            reasons = [str(note) for note in dropped if note.rows]
            raise ValueError("; ".join([str(error), *reasons])) from error

    # Test problems stay exactly as published, for scores to be comparable; repeats are only reported.
    if test:
        place = place_of(test, "test")
        notes.append(repeats(tested, problem, place))
        later = [row for _, row in contradictions(tested, same)]
        what = "another gold answer than an earlier row with the same problem"
        notes.append(Note(place, what, later, dropped=False))
        made["test"] = tested
    return Splits(made, notes)


def problem(example: Row) -> str:
    """Return the key by which questions are compared: the question with normalised white space."""
    return " ".join(question_of(example).split())


def contradictions(
    examples: list[Row],
    same: Callable[[str, str], bool],
    ignored: Iterable[Hashable] = (),
) -> list[tuple[int, int]]:
    """Return the pairs of rows, counted from 1, that have the same problem but different gold answers.

    The first row of a pair is the first with that problem. Problems in `ignored` are passed over.
    """
    first: dict[Hashable, int] = {}
    skipped = set(ignored)
    found = []
    for number, example in enumerate(examples, 1):
        name = problem(example)
        if name in skipped:
            continue
        earlier = first.setdefault(name, number)
        if not same(examples[earlier - 1]["answer"], example["answer"]):
            found.append((earlier, number))
    return found


def _contradicted(place: str, examples: list[Row], pairs: list[tuple[int, int]]) -> str:
    """Return the message about training rows that contradict each other, with the first of them."""
    listed = []
    for first, second in pairs[:SHOWN]:
        gold = preview(examples[first - 1]["answer"])
        other = preview(examples[second - 1]["answer"])
        listed.append(f"rows {first} and {second} of train ({gold} and {other})")
    more = ""
    if len(pairs) > SHOWN:
        more = f"; {len(pairs) - SHOWN} more"
    return (
        f"{place}: the same problem with different gold answers: {'; '.join(listed)}{more}. Correct or remove a row of "
        "each pair (of data on the hub in a copy, given with source: local)"
    )


def distinct_rows(
    rows: list[Any],
    key: Callable[[Any], Hashable],
    place: str,
    tested: Iterable[Hashable] = (),
) -> tuple[list[Any], list[Note]]:
    """Return the rows whose key is new and not in `tested`, in order, and notes on the dropped ones."""
    seen: set[Hashable] = set()
    avoided = set(tested)
    kept = []
    repeated = []
    in_test = []
    for number, row in enumerate(rows, 1):
        name = key(row)
        if name in avoided:
            in_test.append(number)
        elif name in seen:
            repeated.append(number)
        else:
            kept.append(row)
        seen.add(name)
    notes = [
        Note(place, "the same problem as in an earlier row", repeated, dropped=True),
        Note(place, "problems of the test set", in_test, dropped=True),
    ]
    return kept, notes


def repeats(rows: list[Any], key: Callable[[Any], Hashable], place: str) -> Note:
    """Report rows that repeat an earlier one, without dropping them."""
    _, (repeated, _) = distinct_rows(rows, key, place)
    return Note(place, repeated.what, repeated.rows, dropped=False)
