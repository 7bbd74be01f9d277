"""Collecting like terms: what stands for MATH500 at laptop scale, in the tiny model's alphabet. It is not MATH500.

A problem is a sum such as `4a+3b+2a-1b`; the answer is an expression, `6a+2b`. As in MATH500 the published protocol
wants the same string and the strict one the same mathematics: `2b+6a` is right only for the latter. Problems are
distinct within and between the splits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from unmask.config.kinds import Count
from unmask.prompts import Messages, ask
from unmask.scoring import published, strict
from unmask.scoring.terms import TERM, coefficients
from unmask.tasks import Example, Grade, Task, distinct

LETTERS = "ab"
OVERHEAD = 9  # tokens beside the reasoning: its end, the answer `6a+2b` and its tags, the end of text


@dataclass(frozen=True)
class Simplify(Task):
    """Sums of terms in a and b, an expression as the answer."""

    test_only = ("test",)

    largest: Count  # coefficient, of terms and partial sums; at most 9
    min_terms: Count
    max_terms: Count
    train: Count  # problems in each split
    validation: Count
    test: Count
    seed: int

    def splits(self) -> dict[str, list[Example]]:
        """Random sums whose collected coefficients are digits; the number of terms is the difficulty."""
        return distinct(self._example, self.train, self.validation, self.test, random.Random(self.seed))

    def _example(self, rng: random.Random) -> Example | None:
        terms = rng.randint(self.min_terms, self.max_terms)
        letters = rng.choices(LETTERS, k=terms)
        question = "".join(
            rng.choice("++-") + str(rng.randint(1, self.largest)) + letter for letter in letters
        ).removeprefix("+")
        partial = [value for letter in LETTERS for value in partial_sums(question, letter)]
        if (
            question[0] == "-"
            or set(letters) != set(LETTERS)
            or not all(1 <= value <= self.largest for value in partial)
        ):
            return None
        return {"question": question, "answer": collected(question), "difficulty": terms}

    def messages(self, example: Example) -> Messages:
        """The sum alone."""
        return ask(example["question"])

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """1.0 for the right expression, in any order."""
        return {"correct": strict.simplify(response, example["answer"]).share}

    def grade(self, response: str, example: Example) -> Grade:
        """Published: the same string. Strict: the same expression."""
        gold = example["answer"]
        return Grade.of(published.simplify(response, gold), strict.simplify(response, gold))

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """The partial sums of each letter, `a4+2=6;b3-1=2`, as far as they fit. The shortcut forgets the last term."""
        question = example["question"]
        seen = question if right else question[:-3]
        steps, room = ";".join(worked(seen, letter) for letter in LETTERS), length - OVERHEAD
        return f"{steps[:room]:<{room}}</reasoning><answer>{collected(seen)}</answer>"


def collected(question: str) -> str:
    """The sum with like terms collected, in alphabetical order."""
    return "+".join(f"{number}{letter}" for letter, number in sorted((coefficients(question) or {}).items()))


def partial_sums(question: str, letter: str) -> list[int]:
    """The coefficient of a letter after each of its terms."""
    total, found = 0, []
    for sign, number, name in TERM.findall(question):
        if name == letter:
            total += int(sign + number)
            found.append(total)
    return found


def worked(question: str, letter: str) -> str:
    """`4a+3b+2a` and a -> `a4+2=6`."""
    terms = [sign + number for sign, number, name in TERM.findall(question) if name == letter]
    sums = partial_sums(question, letter)
    return (
        letter
        + "".join(terms[:1]).removeprefix("+")
        + "".join(f"{t}={s}" for t, s in zip(terms[1:], sums[1:], strict=True))
    )
