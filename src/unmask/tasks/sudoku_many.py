"""Sudoku 4×4 with many solutions: any completion is right, and which one it is becomes a column of the samples.

Boards of the papers have few blanks and mostly one solution; these have so many blanks that a policy can keep its
choice, or lose it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from unmask.config.schema.types import Count
from unmask.scoring import strict
from unmask.scoring.sudoku_grids import all_grids, keeps_givens
from unmask.tasks import Example, Grade, Task, distinct, question_of
from unmask.tasks._prompts import Messages, format_prompt, user_message
from unmask.tasks.sudoku import INSTRUCTIONS, counted

OVERHEAD = 20  # tokens besides the reasoning: three tags, the 16 cells and the end of text


@dataclass(frozen=True)
class SudokuMany(Task):
    """Boards with at least `min_solutions` completions; no board is in two splits, but solutions are."""

    test_only = ("test", "evaluation_prompt_file")
    training_only = ("prompt_file",)

    prompt: Literal["terse", "chat"]  # terse: only the 16 digits, for tiny models
    prompt_file: str  # for training with `chat`; "" for our own wording
    evaluation_prompt_file: str  # for test boards; `same` for that of training
    min_blanks: Count  # fewest blank cells
    max_blanks: Count  # most blank cells
    min_solutions: Count  # fewest completions of a board
    train: Count  # training boards
    validation: Count  # validation boards
    test: Count  # test boards
    seed: int  # of the generator

    def splits(self) -> dict[str, list[Example]]:
        """Draw boards, all with the same probability; the difficulty is the number of completions.

        So the first draws are no other population than the last, even where most boards are drawn.
        """
        return distinct(self._example, self.train, self.validation, self.test, random.Random(self.seed))

    def _example(self, rng: random.Random) -> Example | None:
        # All sets of blanks are equally likely, and below all boards: a board with n completions comes from n grids.
        sizes = range(self.min_blanks, self.max_blanks + 1)
        (size,) = rng.choices(sizes, [math.comb(16, one) for one in sizes])
        blanks = set(rng.sample(range(16), size))
        grid = rng.choice(all_grids())
        puzzle = "".join("0" if cell in blanks else digit for cell, digit in enumerate(grid))
        found = [board for board in all_grids() if keeps_givens(board, puzzle)]
        # Where counting the columns is a completion, the shortcut would be right.
        if len(found) < self.min_solutions or counted(puzzle) in found:
            return None
        if rng.random() > self.min_solutions / len(found):
            return None
        return {"question": puzzle, "answer": found[0], "difficulty": len(found), "solutions": found}

    def messages(self, example: Example) -> Messages:
        """Pose the 16 digits, with Sudoku's instructions if `prompt` is `chat`."""
        if self.prompt == "terse":
            return user_message(question_of(example))
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return 1.0 for any completion; no single cell is right or wrong by itself."""
        return {"correct": self.grade(response, example).strict}

    def grade(self, response: str, example: Example) -> Grade:
        """Accept any completion, under both protocols; `solution` is the board, "" for a wrong answer."""
        verdict = strict.sudoku(response, question_of(example), example["answer"])
        return Grade.of(verdict, verdict, solution=(verdict.answer or "") if verdict.correct else "")

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Write the plan `s`, padded with spaces, and a random completion; or `c` and the shortcut of Sudoku."""
        board = rng.choice(example["solutions"]) if right else counted(question_of(example))
        if self.prompt == "chat":
            return f"\n</reasoning>\n<answer>\n{board}\n</answer>"
        plan = "s" if right else "c"  # one token, so that solving or taking the shortcut is one decision
        return f"{plan:<{length - OVERHEAD}}</reasoning><answer>{board}</answer>"

    def shortcut_grade(self, example: Example) -> float:
        """Return the sum of the given digits: of the completions, 12 are so common that most boards would be alike."""
        return float(sum(map(int, question_of(example))))
