"""Straight-line programs: a laptop-scale substitute for the code tasks, in the tiny model's vocabulary.

A problem such as `+3*x-1` says what to do with x, from left to right; the answer is the program `a=x+3;b=a*x;c=b-1`. It
is run against tests in the same sandbox and over the same protocol as Python, by the interpreter in
sandbox/inside/straight_line.py. Its numbers say nothing about MBPP or HumanEval.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from unmask.config.schema.types import Count
from unmask.sandbox.cases import Tests
from unmask.sandbox.verdicts import Result, run_tests
from unmask.scoring.extraction import answer_text, cut
from unmask.tasks import Example, Grade, Task, distinct, question_of
from unmask.tasks._code import graded
from unmask.tasks._prompts import Messages, user_message

LETTERS = "abcdefgh"  # one for each step
OPERANDS = "x123456789"
LINE = 6  # characters of `a=x+3;`
OVERHEAD = 5  # tokens besides draft and program: the plan, three tags and the end of text
ARGUMENTS = range(-9, 10)  # of the tests


@dataclass(frozen=True)
class StraightLine(Task):
    """Sequences of operations on x to be written as a program; no problem occurs twice."""

    test_only = ("test",)

    min_steps: Count  # fewest operations of a problem
    max_steps: Count  # most operations of a problem; at most 8
    tests: Count  # tests of a problem; at most 19
    train: Count  # training problems
    validation: Count  # validation problems
    test: Count  # test problems
    seed: int  # of the generator

    def splits(self) -> dict[str, list[Example]]:
        """Draw random operations with tests that the shortcut fails; the difficulty is their number."""
        rng = random.Random(self.seed)
        return distinct(self._example, self.train, self.validation, self.test, rng)

    def _example(self, rng: random.Random) -> Example | None:
        steps = rng.randint(self.min_steps, self.max_steps)
        question = ""
        for _ in range(steps):
            question += rng.choice("+-*") + rng.choice(OPERANDS)
        arguments = sorted(rng.sample(ARGUMENTS, self.tests))
        values = [value_of(question, x) for x in arguments]
        if [value_of(question[:-2], x) for x in arguments] == values:
            return None
        return {
            "question": question,
            "answer": written(question),
            "difficulty": steps,
            "tests": [f"assert f({x}) == {value}" for x, value in zip(arguments, values, strict=True)],
        }

    def messages(self, example: Example) -> Messages:
        """Pose the operations, padded to the longest problem so that distances to the response stay constant."""
        return user_message(f"{question_of(example):<{2 * self.max_steps}}")

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return half of what code tasks pay, so that it lies in [0, 1]; the answer tags are the fenced block."""
        text = cut(response)
        _, _, rest = text.partition("</answer>")
        proper = text.count("<answer>") == text.count("</answer>") == 1 and not rest.strip()
        program = answer_text(text)
        if not proper or program is None:
            return {"format": 0.0, "tests": 0.0}
        result = self._run(program, example)
        return {"format": 0.5 if result.parses else 0.25, "tests": 0.5 * result.share}

    def grade(self, response: str, example: Example) -> Grade:
        """Grade the program as correct if it passes every test, the same under both protocols."""
        program = answer_text(cut(response))
        return graded(program, None if program is None else self._run(program, example))

    @staticmethod
    def _run(program: str, example: Example) -> Result:
        return run_tests(program, Tests("asserts", tuple(example["tests"])), "straight_line")

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Write a plan, a draft of the program as far as it fits, then the program.

        The plan is `s` (solve), or `o` for the shortcut, which omits the last step. As one token it makes the choice
        between them one decision, as in Sudoku.
        """
        question = question_of(example)
        program = written(question if right else question[:-2])
        plan = "s" if right else "o"
        room = max(0, length - LINE * self.max_steps - OVERHEAD)
        return f"{plan}{program[:room]:<{room}}</reasoning><answer>{program}</answer>"

    def shortcut_grade(self, example: Example) -> float:
        """Return the place of the last operand among x, 1, …, 9, which is independent of the number of steps."""
        return float(OPERANDS.index(question_of(example)[-1]))


def written(question: str) -> str:
    """Return the program of operations: `+3*x` -> `a=x+3;b=a*x`."""
    lines = []
    before = "x"
    for letter, sign, operand in zip(LETTERS, question[::2], question[1::2], strict=False):
        lines.append(f"{letter}={before}{sign}{operand}")
        before = letter
    return ";".join(lines)


def value_of(question: str, x: int) -> int:
    """Return the value of operations on x, from left to right."""
    value = x
    for sign, operand in zip(question[::2], question[1::2], strict=True):
        number = x if operand == "x" else int(operand)
        value = {"+": value + number, "-": value - number, "*": value * number}[sign]
    return value
