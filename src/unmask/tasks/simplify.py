"""Collecting like terms: a laptop-scale substitute for MATH500, in the tiny model's vocabulary. It is not MATH500.

A problem is a sum such as `4a+3b+2a-1b`, and the answer an expression, `6a+2b`. As in MATH500, the published protocol
compares strings and the strict one mathematics: only the latter accepts `2b+6a`. No problem occurs twice, within or
between splits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from unmask.config.schema.types import Count
from unmask.scoring import published, strict
from unmask.scoring.like_terms import TERM, coefficients
from unmask.tasks import Example, Grade, Task, distinct, question_of
from unmask.tasks._prompts import Messages, user_message

LETTERS = "ab"
OVERHEAD = 9  # tokens in addition to the reasoning: its closing tag, the answer `6a+2b` with its tags, the end of text


@dataclass(frozen=True)
class Simplify(Task):
    """Sums of terms in a and b whose answer is an expression."""

    test_only = ("test",)

    largest: Count  # largest coefficient of terms and partial sums; at most 9
    min_terms: Count  # fewest terms of a sum
    max_terms: Count  # most terms of a sum
    train: Count  # training problems
    validation: Count  # validation problems
    test: Count  # test problems
    seed: int  # of the generator

    def splits(self) -> dict[str, list[Example]]:
        """Draw random sums whose collected coefficients are digits; the difficulty is the number of terms."""
        rng = random.Random(self.seed)
        return distinct(self._example, self.train, self.validation, self.test, rng)

    def _example(self, rng: random.Random) -> Example | None:
        terms = rng.randint(self.min_terms, self.max_terms)
        letters = rng.choices(LETTERS, k=terms)
        question = ""
        for letter in letters:
            sign = rng.choice("++-")
            number = rng.randint(1, self.largest)
            question += f"{sign}{number}{letter}"
        question = question.removeprefix("+")

        # Reject sums that start with a minus, lack a letter, or have a partial sum that is not a single digit: the
        # demonstrations write all partial sums, and the answer always has the form `6a+2b`.
        if question[0] == "-" or set(letters) != set(LETTERS):
            return None
        for letter in LETTERS:
            sums = partial_sums(question, letter)
            if min(sums) < 1 or max(sums) > self.largest:
                return None
        return {"question": question, "answer": collected(question), "difficulty": terms}

    def messages(self, example: Example) -> Messages:
        """Pose the sum without instructions."""
        return user_message(question_of(example))

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return 1.0 for the correct expression, with its terms in any order."""
        verdict = strict.simplify(response, example["answer"])
        return {"correct": verdict.share}

    def grade(self, response: str, example: Example) -> Grade:
        """Score the expression under both protocols."""
        gold = example["answer"]
        return Grade.of(published.simplify(response, gold), strict.simplify(response, gold))

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Write the partial sums of each letter, `a4+2=6;b3-1=2`, as far as they fit; the shortcut omits the last."""
        seen = question_of(example)
        if not right:
            seen = seen[:-3]  # a term has three characters
        steps = ";".join(worked(seen, letter) for letter in LETTERS)
        room = length - OVERHEAD
        reasoning = f"{steps[:room]:<{room}}"
        return f"{reasoning}</reasoning><answer>{collected(seen)}</answer>"


def collected(question: str) -> str:
    """Collect like terms, in alphabetical order: `4a+3b+2a-1b` -> `6a+2b`."""
    sums = coefficients(question) or {}
    terms = [f"{number}{letter}" for letter, number in sorted(sums.items())]
    return "+".join(terms)


def partial_sums(question: str, letter: str) -> list[int]:
    """Return the coefficient of a letter after each of its terms: `4a+3b+2a` and a -> [4, 6]."""
    total = 0
    found = []
    for sign, number, name in TERM.findall(question):
        if name == letter:
            total += int(sign + number)
            found.append(total)
    return found


def worked(question: str, letter: str) -> str:
    """Write out the partial sums of a letter: `4a+3b+2a` and a -> `a4+2=6`."""
    terms = [sign + number for sign, number, name in TERM.findall(question) if name == letter]
    if not terms:
        return letter
    text = letter + terms[0].removeprefix("+")
    sums = partial_sums(question, letter)
    for term, total in zip(terms[1:], sums[1:], strict=True):
        text += f"{term}={total}"
    return text
