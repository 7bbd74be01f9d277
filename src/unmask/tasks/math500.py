r"""MATH500: competition problems whose answer is a LaTeX expression.

Tested on the 500 problems of Lightman et al. 2023 (HuggingFaceH4/MATH-500), trained on the other 12,000 of MATH
(Hendrycks et al. 2021; ankner/math-500 holds both). The corrected reward has the parts of d1's and DMPO's without their
quirks: both released functions compare answers as strings, and d1's test for a box looks for a backspace followed by
"oxed" and so never finds one.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from unmask.config.kinds import Count, Rewards, Stored
from unmask.prompts import Messages, pose
from unmask.scoring import published, released, strict
from unmask.scoring.extraction import cut, last_box
from unmask.sources import Row, shown, statement, text
from unmask.stored import stored_splits
from unmask.tasks import Example, Grade, Task, stored_solution

INSTRUCTIONS = (
    "Solve this mathematics problem step by step. Write your reasoning between <reasoning> and </reasoning>. After "
    "that write the result as \\boxed{...} between <answer> and </answer>."
)


@dataclass(frozen=True)
class Math500(Task):
    """Competition problems, one LaTeX expression as the answer."""

    # Not test_source: its problems are taken out of training.
    test_only = ("evaluation_prompt_file",)
    training_only = ("train_source", "validation", "seed", "prompt_file")
    reward_only = ("rewards",)

    train_source: Stored
    test_source: Stored
    validation: Count  # problems of the training split kept back to choose checkpoints
    seed: int
    prompt_file: str  # of training; "" for our own wording
    evaluation_prompt_file: str  # of the test problems; `same` for that of training
    rewards: Rewards

    def splits(self) -> dict[str, list[Example]]:
        """Training problems without those of the test split, some of them as validation; and the 500."""
        return stored_splits(self.train_source, self.test_source, _example, self.validation, self.seed)

    def messages(self, example: Example) -> Messages:
        """The problem under the instructions."""
        return pose(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """2.0 for the right answer; 1, 0.75, 0.5 or 0.25 for answer tag and box, tag alone, box alone or neither."""
        text = self.prefill + cut(response)
        if self.rewards.startswith("released"):
            return released.math500(text, example["answer"], backspace=self.rewards == "released_d1")
        _, tagged, answer = text.partition("<answer>")
        place = answer.partition("</answer>")[0] if tagged else text
        return {
            "format": 0.5 * bool(tagged) + (0.5 if "\\boxed" in place else 0.25),
            "correct": 2.0 * strict.math500(text, example["answer"]).correct,
        }

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """The worked solution, then the answer in a box. A box without braces would hide that one from `published`."""
        reasoning = stored_solution(self, example, right).replace("\\boxed ", "")
        return f"\n{reasoning}\n</reasoning>\n<answer>\n\\boxed{{{example['answer']}}}\n</answer>"

    def grade(self, response: str, example: Example) -> Grade:
        """Both protocols, on the expression."""
        gold = example["answer"]
        return Grade.of(published.math500(response, gold), strict.math500(response, gold))


def _example(row: Row) -> Example:
    """The gold answer stands by itself or is the last box of the solution; the level, if told, is the difficulty."""
    solution = text(row, "solution") if row.get("solution") is not None else ""
    gold = text(row, "answer") if row.get("answer") is not None else _boxed(solution)
    if not gold.strip():
        raise ValueError(f"no answer, and no box in the solution to {shown(row.get('problem'))}")
    level = re.search("[0-9]", str(row.get("level", "")))
    return {
        "question": statement(row, "problem", "question"),
        "answer": gold,
        "difficulty": int(level[0]) if level else 0,
        "solution": solution,
    }


def _boxed(solution: str) -> str:
    """The content of a solution's last box. The scorers' `last_box` would take a solution without one as a whole."""
    return (last_box(solution) or "") if re.search(r"\\(boxed|fbox)", solution) else ""
