"""Arithmetic chains: what stands for GSM8K at laptop scale, in the tiny model's alphabet. It is not GSM8K.

A problem such as `3+4-5+6` is worked from left to right; every result is a digit: 7, 2, 8. As in a word problem every
step needs the result of the one before; a longer generation has room for more. Problems are distinct within and between
the splits. (docs/laptop.md says what base models made of other forms.)
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from unmask.config.kinds import Count
from unmask.prompts import Messages, ask
from unmask.scoring import published, strict
from unmask.tasks import Example, Grade, Task, distinct

OVERHEAD = 5  # tokens beside the reasoning: its end, the answer and its tags, the end of text


@dataclass(frozen=True)
class Chain(Task):
    """Chains of + and -, one digit as the answer."""

    test_only = ("test",)

    min_steps: Count
    max_steps: Count
    train: Count  # problems in each split
    validation: Count
    test: Count
    seed: int

    def splits(self) -> dict[str, list[Example]]:
        """Random chains whose last step changes the result; the number of steps is the difficulty."""
        return distinct(self._example, self.train, self.validation, self.test, random.Random(self.seed))

    def _example(self, rng: random.Random) -> Example:
        steps, value = rng.randint(self.min_steps, self.max_steps), rng.randint(1, 9)
        chain = str(value)
        for _ in range(steps):
            change = rng.choice([n for n in range(-value, 10 - value) if n])
            value += change
            chain += f"{change:+d}"
        return {"question": chain, "answer": str(value), "difficulty": steps}

    def messages(self, example: Example) -> Messages:
        """The chain with room for its results, `3+4=.-5=.`, padded so that places keep their distance."""
        return ask(f"{spaced(example['question']):<{1 + 4 * self.max_steps}}")

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """1.0 for the right digit."""
        return {"correct": strict.chain(response, float(example["answer"])).share}

    def grade(self, response: str, example: Example) -> Grade:
        """Both protocols."""
        gold = float(example["answer"])
        return Grade.of(published.chain(response, gold), strict.chain(response, gold))

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """The chain with its results written in, `3+4=7-5=2+6=8`, as far as it fits. The shortcut stops too early."""
        steps = worked(example["question"] if right else example["question"][:-2])
        room = length - OVERHEAD
        return f"{steps[:room]:<{room}}</reasoning><answer>{steps[-1]}</answer>"


def spaced(chain: str) -> str:
    """`3+4-5` -> `3+4=.-5=.`."""
    return chain[:1] + "".join(f"{chain[i : i + 2]}=." for i in range(1, len(chain), 2))


def worked(chain: str) -> str:
    """`3+4-5` -> `3+4=7-5=2`."""
    value, text = int(chain[0]), chain[0]
    for sign, digit in zip(chain[1::2], chain[2::2], strict=True):
        value += int(sign + digit)
        text += f"{sign}{digit}={value}"
    return text
