r"""MATH500: competition problems whose answer is a LaTeX expression.

The test set is the 500 problems of Lightman et al. 2023 (HuggingFaceH4/MATH-500), the training set the other 12,000 of
MATH (Hendrycks et al. 2021; ankner/math-500 has both). The corrected reward has the same parts as d1's and DMPO's,
without their quirks: both released functions compare answers as strings, and d1's check for a box looks for a backspace
followed by "oxed", so it never finds one.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from unmask.config.schema.types import Count, Rewards, Stored
from unmask.scoring import published, released, strict
from unmask.scoring.equivalence import equivalent
from unmask.scoring.extraction import cut, last_box
from unmask.tasks import Example, Grade, Task, stored_solution
from unmask.tasks._columns import preview, statement, text
from unmask.tasks._files import Row
from unmask.tasks._prompts import Messages, format_prompt
from unmask.tasks._stored import stored_splits

INSTRUCTIONS = (
    "Solve this mathematics problem step by step. Write your reasoning between <reasoning> and </reasoning>. After "
    "that write the result as \\boxed{...} between <answer> and </answer>."
)


@dataclass(frozen=True)
class Math500(Task):
    """Competition problems whose answer is one LaTeX expression."""

    # `test_source` also affects the training split: test problems are removed from it.
    test_only = ("evaluation_prompt_file",)
    training_only = ("train_source", "validation", "seed", "prompt_file")
    reward_only = ("rewards",)

    train_source: Stored  # of training and validation problems
    test_source: Stored  # of test problems
    validation: Count  # training problems held out to select checkpoints
    seed: int  # of the split
    prompt_file: str  # for training; "" for our own wording
    evaluation_prompt_file: str  # for test problems; `same` for that of training
    rewards: Rewards  # reward function: ours, or that of a released code

    def splits(self) -> dict[str, list[Example]]:
        """Return the 500 test problems and the training problems without them, some as the validation split."""
        return stored_splits(
            self.train_source,
            self.test_source,
            _example,
            self.validation,
            self.seed,
            _same,
        )

    def messages(self, example: Example) -> Messages:
        """Pose the problem below the instructions."""
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return 2.0 if correct, plus 1, 0.75, 0.5 or 0.25 for answer tag and box, tag only, box only or neither."""
        text = self.prefill + cut(response)
        if self.rewards.startswith("released"):
            return released.math500(text, example["answer"], backspace=self.rewards == "released_d1")

        # As in the released code, the answer tag need not be closed to earn the format part.
        place = text
        _, tagged, inside = text.partition("<answer>")
        if tagged:
            place, _, _ = inside.partition("</answer>")
        for_tag = 0.5 if tagged else 0.0
        for_box = 0.5 if "\\boxed" in place else 0.25
        verdict = strict.math500(text, example["answer"])
        return {"format": for_tag + for_box, "correct": 2.0 * verdict.correct}

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Return the worked solution, then the answer in a box."""
        # The published protocol prefers `\boxed ` without braces over any other box, so one in the solution would hide
        # the answer.
        reasoning = stored_solution(self, example, right).replace("\\boxed ", "")
        return f"\n{reasoning}\n</reasoning>\n<answer>\n\\boxed{{{example['answer']}}}\n</answer>"

    def grade(self, response: str, example: Example) -> Grade:
        """Score the expression under both protocols."""
        gold = example["answer"]
        return Grade.of(published.math500(response, gold), strict.math500(response, gold))


def _same(gold: str, other: str) -> bool:
    """Return True if two gold answers are the same mathematics; either may leave out a unit or a base."""
    same, _ = equivalent(gold, other)
    if same:
        return True
    same, _ = equivalent(other, gold)
    return same


def _example(row: Row) -> Example:
    """Parse a row; the gold answer has its own column or is the last box of the solution.

    The difficulty is the level, 0 if the row has none. Raises ValueError if there is no answer.
    """
    solution = ""
    if row.get("solution") is not None:
        solution = text(row, "solution")
    gold = _boxed(solution)
    if row.get("answer") is not None:
        gold = text(row, "answer")
    if not gold.strip():
        raise ValueError(f"no answer, and no box in the solution to {preview(row.get('problem'))}")

    level = re.search("[0-9]", str(row.get("level", "")))
    difficulty = int(level[0]) if level else 0
    return {
        "question": statement(row, "problem", "question"),
        "answer": gold,
        "difficulty": difficulty,
        "solution": solution,
    }


def _boxed(solution: str) -> str:
    """Return the content of the last box, "" if there is none."""
    # Without a box, `last_box` returns the whole text, as the papers' scripts do; that is no gold answer.
    if not re.search(r"\\(boxed|fbox)", solution):
        return ""
    return last_box(solution) or ""
