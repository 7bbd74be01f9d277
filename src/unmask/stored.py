"""Splits made of stored rows: what repeats itself, or is tested, is not trained on. Nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from unmask.sources import Row, cut_off, place_of, read_examples

SHOWN = 10  # rows that a message or manifest lists


@dataclass(frozen=True)
class Note:
    """Rows of a source that are not as they should be, counted from 1, and whether they were dropped."""

    place: str
    what: str
    rows: list[int]
    dropped: bool

    def __str__(self) -> str:
        listed = ", ".join(map(str, self.rows[:SHOWN])) + (", …" if len(self.rows) > SHOWN else "")
        count = f"{len(self.rows)} row{'s' if len(self.rows) > 1 else ''}"
        return f"{self.place}: {count} {'dropped' if self.dropped else 'kept'}, {self.what}: {listed}"

    def to_json(self) -> dict[str, Any]:
        """As a manifest has it."""
        first = self.rows[:SHOWN]
        return {"place": self.place, "what": self.what, "count": len(self.rows), "rows": first, "dropped": self.dropped}


class Splits(dict[str, list[Row]]):
    """Examples by split, with notes on the rows they were made of."""

    def __init__(self, splits: dict[str, list[Row]], notes: Iterable[Note] = ()) -> None:
        super().__init__(splits)
        self.notes = [note for note in notes if note.rows]


def stored_splits(
    train: dict[str, Any] | None, test: dict[str, Any] | None, make: Callable[[Row], Row], validation: int, seed: int
) -> Splits:
    """The splits of a benchmark: training rows without repeats and test problems, some of them as validation.

    Test problems stay as they were published. A source that is None has no split.
    """
    made, notes = {}, []
    tested = read_examples(test, "test", make) if test else []
    if train:
        examples = read_examples(train, "train", make)
        kept, dropped = distinct_rows(examples, problem, place_of(train, "train"), map(problem, tested))
        notes += dropped
        try:
            made["train"], made["validation"] = cut_off(kept, validation, seed)
        except ValueError as error:
            raise ValueError("; ".join([str(error), *(str(note) for note in dropped if note.rows)])) from error
    if test:
        notes.append(repeats(tested, problem, place_of(test, "test")))
        made["test"] = tested
    return Splits(made, notes)


def problem(example: Row) -> str:
    """The question, whatever its white space."""
    return " ".join(example["question"].split())


def distinct_rows(
    rows: list[Any], key: Callable[[Any], Hashable], place: str, tested: Iterable[Hashable] = ()
) -> tuple[list[Any], list[Note]]:
    """The rows whose key is neither that of an earlier row nor of a tested one, and notes on the others."""
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
    """A note on rows that repeat an earlier one, which are kept."""
    _, (repeated, _) = distinct_rows(rows, key, place)
    return Note(place, repeated.what, repeated.rows, False)
