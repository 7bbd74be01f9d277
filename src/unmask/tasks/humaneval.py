"""HumanEval: 164 Python functions to complete from signature and docstring (openai/openai_humaneval, Chen et al. 2021).

It has no training split; its training problems are those of MBPP, AceCode-87K or KodCode-Light-RL-10K, which the layout
of the rows tells apart.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from unmask.config.schema.types import Count, Stored
from unmask.tasks import Example, Grade, Task, stored_solution
from unmask.tasks._code import INSTRUCTIONS, code_splits, grade, reward
from unmask.tasks._prompts import Messages, format_prompt


@dataclass(frozen=True)
class Humaneval(Task):
    """Functions with signature, docstring and tests."""

    # `test_source` also affects the training split: test problems are removed from it.
    test_only = ("evaluation_prompt_file",)
    training_only = ("train_source", "train_rows", "validation", "seed", "prompt_file")
    prefill = ""

    train_source: Stored  # of training and validation problems: MBPP, AceCode, KodCode or HumanEval rows
    train_rows: Literal["all", "acecode_hard"]  # all, or DiffuCoder's hard split of AceCode
    test_source: Stored  # of test problems
    validation: Count  # training problems held out to select checkpoints
    seed: int  # of the split
    prompt_file: str  # for training; "" for our own wording
    evaluation_prompt_file: str  # for test problems; `same` for that of training

    def splits(self) -> dict[str, list[Example]]:
        """Return the published splits, with some of the training problems as the validation split."""
        return code_splits(self.train_source, self.test_source, self.train_rows, self.validation, self.seed)

    def messages(self, example: Example) -> Messages:
        """Pose the problem below the instructions."""
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return up to 2.0: 1.0 for one block at the end that parses (0.5 if it does not), and the share of tests."""
        return reward(response, example)

    def grade(self, response: str, example: Example) -> Grade:
        """Grade the program as correct if it passes every test, the same under both protocols."""
        return grade(response, example)

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Return the reference solution in a block."""
        return f"```python\n{stored_solution(self, example, right).strip()}\n```"
