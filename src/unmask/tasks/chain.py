"""Arithmetic chains: a laptop-scale substitute for GSM8K, in the tiny model's vocabulary. It is not GSM8K.

A problem such as `3+4-5+6` is solved from left to right, and every intermediate result is a digit: 7, 2, 8. As in a
word problem, each step needs the result of the previous one; longer generations have room for more steps. No problem
occurs twice, within or between splits. docs/laptop.md reports the other forms that were tried.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from unmask.config.schema.types import Count
from unmask.scoring import published, strict
from unmask.tasks import Example, Grade, Task, distinct, question_of
from unmask.tasks._prompts import Messages, user_message

OVERHEAD = 5  # tokens in addition to the reasoning: its closing tag, the answer with its tags, the end of text


@dataclass(frozen=True)
class Chain(Task):
    """Chains of + and - whose answer is one digit."""

    test_only = ("test",)

    min_steps: Count  # fewest operations of a chain
    max_steps: Count  # most operations of a chain
    train: Count  # training problems
    validation: Count  # validation problems
    test: Count  # test problems
    seed: int  # of the generator

    def splits(self) -> dict[str, list[Example]]:
        """Draw random chains; the difficulty is the number of steps."""
        rng = random.Random(self.seed)
        return distinct(self._example, self.train, self.validation, self.test, rng)

    def _example(self, rng: random.Random) -> Example:
        steps = rng.randint(self.min_steps, self.max_steps)
        value = rng.randint(1, 9)
        chain = str(value)
        for _ in range(steps):
            # Results stay between 0 and 9. No step is 0, because the shortcut omits the last step and must fail.
            changes = [change for change in range(-value, 10 - value) if change != 0]
            change = rng.choice(changes)
            value += change
            chain += f"{change:+d}"
        return {"question": chain, "answer": str(value), "difficulty": steps}

    def messages(self, example: Example) -> Messages:
        """Pose the chain with a placeholder for each result, `3+4=.-5=.`, padded to the longest chain.

        Placeholders and padding keep the distance between a position in the prompt and its copy in the response
        constant; tiny models learn the task much better that way (docs/laptop.md).
        """
        longest = 1 + 4 * self.max_steps
        question = spaced(question_of(example))
        return user_message(f"{question:<{longest}}")

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return 1.0 for the correct digit."""
        gold = float(example["answer"])
        verdict = strict.chain(response, gold)
        return {"correct": verdict.share}

    def grade(self, response: str, example: Example) -> Grade:
        """Score the digit under both protocols."""
        gold = float(example["answer"])
        return Grade.of(published.chain(response, gold), strict.chain(response, gold))

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Write out the chain with results, `3+4=7-5=2+6=8`, as far as it fits; the shortcut omits the last step."""
        chain = question_of(example)
        if not right:
            chain = chain[:-2]
        steps = worked(chain)
        # Spaces fill the reasoning up to its length, so that the answer is at the same position in every response.
        room = length - OVERHEAD
        reasoning = f"{steps[:room]:<{room}}"
        return f"{reasoning}</reasoning><answer>{steps[-1]}</answer>"


def spaced(chain: str) -> str:
    """Insert a placeholder for each result: `3+4-5` -> `3+4=.-5=.`."""
    text = chain[:1]
    for sign, digit in zip(chain[1::2], chain[2::2], strict=True):
        text += f"{sign}{digit}=."
    return text


def worked(chain: str) -> str:
    """Insert the result of each step: `3+4-5` -> `3+4=7-5=2`."""
    text = chain[0]
    value = int(text)
    for sign, digit in zip(chain[1::2], chain[2::2], strict=True):
        value += int(sign + digit)
        text += f"{sign}{digit}={value}"
    return text
