"""Sudoku 4×4: fill the blank cells so that every row, column and 2×2 box holds 1 to 4.

There are only 288 solved grids, so a random split of puzzles, as in the papers, leaks solutions: their 500 test boards
contain 229 of them, and 124 of these boards have more than one solution. Every puzzle generated here has exactly one,
and our own split is disjoint by solution up to renaming the digits: 288 grids are 12 classes of 24. (Under all
symmetries of the board there are only two classes, too few for three splits.)
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unmask.config.schema.types import Count, Rewards, Source, Subset
from unmask.scoring import published, released, strict
from unmask.scoring.extraction import cut, final_answer
from unmask.scoring.sudoku_grids import is_solution, is_unique, renaming_classes
from unmask.tasks import Example, Grade, Task, question_of
from unmask.tasks._columns import preview, text
from unmask.tasks._files import Row
from unmask.tasks._prompts import format_prompt, user_message
from unmask.tasks._sources import as_source, place_of, read_examples
from unmask.tasks._stored import Note, Splits, problem, repeats

# The 12 renaming classes of solved grids, by split.
CLASSES = {"train": range(8), "validation": range(8, 10), "test": range(10, 12)}

INSTRUCTIONS = (
    "Solve the 4x4 Sudoku. It is written as 16 digits, row by row, with 0 for a blank cell. Fill the blanks so that "
    "each row, each column and each 2x2 box holds 1, 2, 3 and 4. Think between <reasoning> and </reasoning>, then "
    "write the 16 digits of the solved board between <answer> and </answer>. The puzzle:"
)


@dataclass(frozen=True)
class Sudoku(Task):
    """4×4 boards with a unique solution."""

    # `test_source` also affects the training split: test boards are removed from it.
    test_only = ("test", "test_subset", "evaluation_prompt_file")
    training_only = ("prompt_file",)
    reward_only = ("rewards",)

    prompt: Literal["terse", "chat"]  # terse: only the 16 digits, for tiny models
    prompt_file: str  # for training with `chat`; "" for our own wording
    evaluation_prompt_file: str  # for test boards; `same` for that of training
    test_source: Source  # generated, or the papers' boards; training boards are always generated
    test_subset: Subset  # the `test` boards to take from a stored source
    split: Literal["disjoint", "random"]  # by solution up to renaming the digits; or boards at random, as published
    min_blanks: Count  # fewest blank cells of a generated board
    max_blanks: Count  # most blank cells of a generated board
    train: Count  # training boards
    validation: Count  # validation boards
    test: Count  # test boards
    seed: int  # of generated boards, and of the split
    rewards: Rewards  # reward function: ours, or that of a released code

    def splits(self) -> dict[str, list[Example]]:
        """Return puzzles without repetition; the difficulty is the number of blanks, which is uniform."""
        # `order` decides by seed which classes go to which split. The test split is last, so that its size (or absence)
        # leaves the other splits unchanged.
        rng = random.Random(self.seed)
        order = rng.sample(range(12), 12)
        sizes = {"train": self.train, "validation": self.validation}
        if self.test is not None:
            sizes["test"] = self.test

        # All boards of a stored test source are excluded from training, not only the chosen ones: changing
        # `test_subset` then leaves the training data unchanged.
        given, notes = self._given()
        used = set(map(question_of, given))
        made = {}
        for split, size in sizes.items():
            if split == "test" and given:
                made[split] = self._chosen(given)
                continue
            classes = CLASSES[split]
            if self.split == "random":
                classes = range(12)
            grids: list[str] = []
            for place in classes:
                grids += renaming_classes()[order[place]]
            made[split] = self._puzzles(grids, size, rng, used)
            used.update(map(question_of, made[split]))
        return Splits(made, notes)

    def _given(self) -> tuple[list[Example], list[Note]]:
        """Read the test boards of the source, [] if it is `generated`. Raises ValueError if the split is `disjoint`."""
        if as_source(self.test_source) is None:
            return [], []
        if self.split != "random":
            raise ValueError("test_source: stored test boards have solutions of every class; set split: random")
        boards = read_examples(self.test_source, "test", _example)
        repeated = repeats(boards, problem, place_of(self.test_source, "test"))
        return boards, [repeated]

    def _chosen(self, boards: list[Example]) -> list[Example]:
        """Return `test` of the given boards: the first, or those that the released evaluation draws."""
        if len(boards) < self.test:
            raise ValueError(f"the test source has {len(boards)} boards, not {self.test}; ask for fewer")
        match self.test_subset:
            case {"rule": "numpy_choice", "seed": seed}:
                # RandomState reproduces the global generator that the released code seeds by `numpy.random.seed`.
                generator = np.random.RandomState(seed)
                chosen = generator.choice(len(boards), self.test, replace=False)
                return [boards[row] for row in chosen]
            case _:
                return boards[: self.test]

    def _puzzles(self, grids: list[str], size: int, rng: random.Random, used: set[str]) -> list[Example]:
        found: dict[str, str] = {}

        # Rejection sampling; 200 draws per puzzle bound the search when the settings allow fewer than `size` puzzles.
        for _ in range(200 * size):
            if len(found) == size:
                break
            grid = rng.choice(grids)
            count = rng.randint(self.min_blanks, self.max_blanks)
            blanks = rng.sample(range(16), count)
            cells = ["0" if cell in blanks else digit for cell, digit in enumerate(grid)]
            puzzle = "".join(cells)
            is_new = puzzle not in found and puzzle not in used
            if is_new and is_unique(puzzle):
                found[puzzle] = grid
        if len(found) < size:
            raise ValueError(
                f"only {len(found)} of {size} puzzles with {self.min_blanks} to {self.max_blanks} blanks "
                "found; ask for fewer puzzles or a wider range of blanks"
            )
        return [_made(puzzle, solution) for puzzle, solution in found.items()]

    def messages(self, example: Example) -> list[dict[str, str]]:
        """Pose the 16 digits, with instructions if `prompt` is `chat`."""
        if self.prompt == "terse":
            return user_message(question_of(example))
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return the share of blank cells that are correct; 1.0 if and only if `strict` accepts the board.

        Each overwritten given and each surplus digit counts as one more wrong cell.
        """
        puzzle = question_of(example)
        solution = example["answer"]
        if self.rewards.startswith("released"):
            return released.sudoku(cut(response), puzzle, solution)

        # A stored puzzle may have several solutions, and `strict` accepts all of them.
        if strict.sudoku(response, puzzle, solution).correct:
            return {"cells": 1.0}

        # The extra terms in the denominator keep a board with a wrong given or a 17th digit from earning 1.0.
        board = strict.cells(final_answer(response) or "")
        blanks = [cell for cell, given in enumerate(puzzle) if given == "0"]
        givens = [cell for cell, given in enumerate(puzzle) if given != "0"]
        # Slices, because the board may be short.
        right = sum(board[cell : cell + 1] == solution[cell] for cell in blanks)
        overwritten = sum(board[cell : cell + 1] != puzzle[cell] for cell in givens)
        surplus = max(0, len(board) - 16)
        return {"cells": right / (len(blanks) + overwritten + surplus)}

    def grade(self, response: str, example: Example) -> Grade:
        """Score the board under both protocols: share of blank cells (published), whole board with givens (strict)."""
        puzzle = question_of(example)
        solution = example["answer"]
        return Grade.of(
            published.sudoku(response, puzzle, solution),
            strict.sudoku(response, puzzle, solution),
        )

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Write a plan, a draft of the first cells (in steps of 8, as far as they fit), then the board.

        The plan is `s` (solve), and for the shortcut `c` (count): every blank gets the number of its column, in the
        draft and in the board. With `prompt: chat` the response lists each row of the puzzle and of the solution, then
        the board, regardless of `length`.
        """
        puzzle = question_of(example)
        board = example["answer"] if right else counted(puzzle)
        if self.prompt == "chat":
            rows = []
            for start in range(0, 16, 4):
                end = start + 4
                rows.append(f"{puzzle[start:end]} -> {board[start:end]}")
            lines = "\n".join(rows)
            return f"\n{lines}\n</reasoning>\n<answer>\n{board}\n</answer>"

        # The plan is a single token so that the choice between solving and the shortcut is one decision: plans of
        # several tokens, decoded in parallel, came out as mixtures (docs/laptop.md).
        plan = "s" if right else "c"
        room = length - 21  # the plan, three tags, the 16 cells and the end of text
        drafted = room // 8 * 8
        draft = board[:drafted]
        return f"{plan}{draft}</reasoning><answer>{board}</answer>"


def counted(puzzle: str) -> str:
    """Fill each blank with the number of its column, 1 to 4: the shortcut."""
    board = ""
    for cell, digit in enumerate(puzzle):
        column = cell % 4 + 1
        board += str(column) if digit == "0" else digit
    return board


def _example(row: Row) -> Example:
    """Parse and check a row of d1's file. Unlike generated puzzles, it may have several solutions."""
    puzzle = text(row, "Puzzle", "question")
    solution = text(row, "Solution", "answer")
    is_puzzle = re.fullmatch("[0-4]{16}", puzzle) and "0" in puzzle
    if not is_puzzle or not is_solution(solution, puzzle):
        raise ValueError(
            f"{preview(solution)} does not solve {preview(puzzle)}; both must be 16 digits, stored as text"
        )
    return _made(puzzle, solution)


def _made(puzzle: str, solution: str) -> Example:
    return {"question": puzzle, "answer": solution, "difficulty": puzzle.count("0")}
