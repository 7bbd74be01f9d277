"""Countdown with several right answers: all of them are enumerated, and a right answer's class is a column of samples.

A class is an expression up to order and grouping (scoring/expression_classes.py), so that the entropy over classes
measures whether a policy keeps more than one solution. Puzzles for tiny models have only + and −, and numbers of one
digit: a choice of signs, of which the target leaves at least `min_solutions`.
"""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import dataclass
from typing import Literal

from unmask.config.schema.types import Count
from unmask.scoring import Verdict, strict
from unmask.scoring.arithmetic import evaluate
from unmask.scoring.expression_classes import class_of, classes, sums
from unmask.scoring.extraction import boxed_terse, final_answer
from unmask.tasks import Example, Grade, Task, distinct
from unmask.tasks._prompts import Messages, format_prompt, user_message
from unmask.tasks.countdown import INSTRUCTIONS


@dataclass(frozen=True)
class CountdownMany(Task):
    """Puzzles with at least `min_solutions` classes of right expressions; no puzzle is in two splits."""

    test_only = ("test", "evaluation_prompt_file")
    training_only = ("prompt_file",)
    question_fields = ("question", "numbers", "target")

    prompt: Literal["terse", "chat"]  # terse: 1,3,4,6=08, for tiny models
    prompt_file: str  # for training with `chat`; "" for our own wording
    evaluation_prompt_file: str  # for test puzzles; `same` for that of training
    operators: Literal["+-*/", "+-"]  # of the solutions that are counted; the answer may use all four
    count: Count  # numbers of a puzzle; four or less with all operators, because all expressions are enumerated
    largest: Count  # largest number
    largest_target: Count  # largest target
    min_solutions: Count  # fewest classes of right expressions of a puzzle
    train: Count  # training puzzles
    validation: Count  # validation puzzles
    test: Count  # test puzzles
    seed: int  # of the generator

    def splits(self) -> dict[str, list[Example]]:
        """Draw sorted numbers and a target, all puzzles with one probability; the difficulty is the number of classes.

        The numbers of a puzzle may be those of another split, with another target.
        """
        return distinct(self._example, self.train, self.validation, self.test, random.Random(self.seed))

    def _example(self, rng: random.Random) -> Example | None:
        # Sorted, so that the same numbers in another order are the same question. Shuffling is left to the wording.
        numbers = list(rng.choice(_multisets(self.largest, self.count)))
        target = rng.randint(1, self.largest_target)
        # Where adding up all numbers is right, so is the shortcut.
        found = self._solutions(numbers).get(target, {})
        if len(found) < self.min_solutions or target == sum(numbers):
            return None
        return {
            "question": f"Numbers: {numbers}\nTarget: {target}",
            "answer": next(iter(found.values())),
            "difficulty": len(found),
            "numbers": numbers,
            "target": target,
            "solutions": list(found),
            "expressions": list(found.values()),
        }

    def _solutions(self, numbers: list[int]) -> dict[int, dict[str, str]]:
        return classes(numbers) if self.operators == "+-*/" else _sums(tuple(numbers))

    def messages(self, example: Example) -> Messages:
        """Pose the numbers and the target, with `chat` in Countdown's words."""
        if self.prompt == "terse":
            numbers = ",".join(map(str, example["numbers"]))
            return user_message(f"{numbers}={example['target']:02d}")
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return 1.0 for any right expression; there is no part for the right numbers alone."""
        return {"correct": self.grade(response, example).strict}

    def grade(self, response: str, example: Example) -> Grade:
        """Accept any right expression, under both protocols; `solution` is its class, "" for a wrong answer."""
        is_terse = self.prompt == "terse"
        answer = final_answer(boxed_terse(response) if is_terse else response)
        numbers = [int(number) for number in example["numbers"]]
        read = strict.sides if is_terse else strict.expressions
        right = [side for side in read(answer or "", numbers) if evaluate(side) == example["target"]]
        verdict = Verdict(answer, int(bool(right)))
        return Grade.of(verdict, verdict, solution=(class_of(right[0]) or "") if right else "")

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Write an expression of a random class, or the sum of all numbers; regardless of `length`."""
        expression = rng.choice(example["expressions"]) if right else "+".join(map(str, example["numbers"]))
        if self.prompt == "terse":
            return f"</reasoning><answer>{expression}</answer>"
        return f"\n{expression} = {evaluate(expression)}\n</reasoning>\n<answer>\n\\boxed{{{expression}}}\n</answer>"

    def shortcut_grade(self, example: Example) -> float:
        """Return the target: the shortcut, a sum, looks more plausible the larger it is."""
        return float(example["target"])


@functools.cache
def _multisets(largest: int, count: int) -> list[tuple[int, ...]]:
    """Return all choices of `count` numbers up to `largest`, each in rising order."""
    return list(itertools.combinations_with_replacement(range(1, largest + 1), count))


@functools.cache
def _sums(numbers: tuple[int, ...]) -> dict[int, dict[str, str]]:
    return sums(list(numbers))
