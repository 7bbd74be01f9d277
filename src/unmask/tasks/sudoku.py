"""Sudoku 4×4: fill the blank cells so that every row, column and 2×2 box holds 1 to 4.

There are only 288 solved grids, so a random split of puzzles leaks solutions. Ours is disjoint by solution up to
renaming the digits: 288 grids are 12 classes of 24. (Under all symmetries of the board there are only two classes, too
few for three splits.) Every puzzle has exactly one solution.
"""

from __future__ import annotations

import functools
import itertools
import random
from dataclasses import dataclass
from typing import Literal

from unmask.settings import Count
from unmask.tasks import Example, Grade, Task, between

CELLS = "abcdefghijklmnop"  # names of the cells in reading order
UNITS = (
    [[4 * r + c for c in range(4)] for r in range(4)]
    + [[4 * r + c for r in range(4)] for c in range(4)]
    + [[4 * (r + i) + c + j for i in (0, 1) for j in (0, 1)] for r in (0, 2) for c in (0, 2)]
)
PEERS = [sorted({q for unit in UNITS if p in unit for q in unit} - {p}) for p in range(16)]
# Renaming classes of solved grids given to each split; 12 in all.
CLASSES = {"train": range(8), "validation": range(8, 10), "test": range(10, 12)}

SYSTEM = (
    "Solve the 4x4 Sudoku. It is written as 16 digits, row by row, with 0 for a blank cell. Fill the blanks so that each "
    "row, each column and each 2x2 box holds 1, 2, 3 and 4. Think between <reasoning> and </reasoning>, then write the 16 "
    "digits of the solved board between <answer> and </answer>."
)


@dataclass(frozen=True)
class Sudoku(Task):
    """4×4 boards with a unique solution, generated."""

    prompt: Literal["terse", "chat"]  # terse: the 16 digits alone, for tiny models
    min_blanks: Count
    max_blanks: Count
    train: Count  # puzzles in each split
    validation: Count
    test: Count
    seed: int

    def splits(self) -> dict[str, list[Example]]:
        """Puzzles without repetition; the number of blanks is uniform and is the difficulty."""
        rng = random.Random(self.seed)
        order = rng.sample(range(12), 12)
        sizes = {"train": self.train, "validation": self.validation, "test": self.test}
        made = {}
        for split, size in sizes.items():
            grids = [grid for i in CLASSES[split] for grid in renaming_classes()[order[i]]]
            made[split] = self._puzzles(grids, size, rng)
        return made

    def _puzzles(self, grids: list[str], size: int, rng: random.Random) -> list[Example]:
        found: dict[str, str] = {}
        for _ in range(200 * size):
            if len(found) == size:
                break
            grid = rng.choice(grids)
            blanks = rng.sample(range(16), rng.randint(self.min_blanks, self.max_blanks))
            puzzle = "".join("0" if i in blanks else digit for i, digit in enumerate(grid))
            if puzzle not in found and len(solutions(puzzle)) == 1:
                found[puzzle] = grid
        if len(found) < size:
            raise ValueError(
                f"tasks.sudoku: only {len(found)} of {size} puzzles with {self.min_blanks} to {self.max_blanks} blanks "
                "found; ask for fewer puzzles or a wider range of blanks"
            )
        return [{"question": p, "answer": s, "difficulty": p.count("0")} for p, s in found.items()]

    def messages(self, example: Example) -> list[dict[str, str]]:
        """The 16 digits, with instructions for a model that reads."""
        if self.prompt == "terse":
            return [{"role": "user", "content": example["question"]}]
        return [{"role": "user", "content": f"{SYSTEM}\n\nPuzzle: {example['question']}"}]

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """The share of blank cells filled right."""
        return {"cells": self.grade(response, example).published}

    def grade(self, response: str, example: Example) -> Grade:
        """Published: share of blank cells right. Strict: the whole board is right, givens included."""
        answer = between(response, "<answer>", "</answer>")
        if answer is None:
            return Grade(None, 0.0, 0.0)
        board = "".join(answer.split())
        puzzle, solution = example["question"], example["answer"]
        blanks = [i for i, given in enumerate(puzzle) if given == "0"]
        right = sum(board[i : i + 1] == solution[i] for i in blanks)
        return Grade(board, right / len(blanks), float(board == solution))

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """As many steps (cell and digit) as fit, then the board.

        Right: the deductions in their order. The shortcut: each row's missing digits in ascending order, told in
        reading order; its first steps look the same, its board is mostly wrong.
        """
        puzzle = example["question"]
        if right:
            board, order = example["answer"], deduction_order(puzzle)
        else:
            board, order = ascending(puzzle), [i for i in range(16) if puzzle[i] == "0"]
        room = length - 20  # two reasoning and answer tags, the board and an end of text
        steps = "".join(CELLS[i] + board[i] for i in order[: room // 2])
        return f"{steps:<{room}}</reasoning><answer>{board}</answer>"


@functools.cache
def all_grids() -> list[str]:
    """The 288 solved boards in lexicographic order."""
    return solutions("0" * 16)


@functools.cache
def renaming_classes() -> list[list[str]]:
    """The 288 boards in 12 classes of 24 that differ only by the names of the digits."""
    classes: dict[str, list[str]] = {}
    for grid in all_grids():
        names = {digit: str(i + 1) for i, digit in enumerate(dict.fromkeys(grid))}
        classes.setdefault("".join(names[d] for d in grid), []).append(grid)
    return list(classes.values())


def candidates(board: list[str], cell: int) -> set[str]:
    """Digits that no peer of the cell holds."""
    return set("1234") - {board[p] for p in PEERS[cell]}


def solutions(puzzle: str) -> list[str]:
    """All solved boards that agree with the puzzle."""
    found: list[str] = []

    def fill(board: list[str]) -> None:
        blanks = [i for i in range(16) if board[i] == "0"]
        if not blanks:
            found.append("".join(board))
            return
        cell = min(blanks, key=lambda i: len(candidates(board, i)))
        for digit in sorted(candidates(board, cell)):
            fill([*board[:cell], digit, *board[cell + 1 :]])

    fill(list(puzzle))
    return sorted(found)


def deduction_order(puzzle: str) -> list[int]:
    """Blank cells in rounds: all cells with one candidate, in reading order; if none, all that a unit forces; again."""
    board, order = list(puzzle), []
    (solution,) = solutions(puzzle)
    while "0" in board:
        blanks = [i for i in range(16) if board[i] == "0"]
        left = {i: candidates(board, i) for i in blanks}
        now = [i for i in blanks if len(left[i]) == 1] or [i for i in blanks if _forced(i, left)] or blanks
        for cell in now:
            board[cell] = solution[cell]
        order += now
    return order


def _forced(cell: int, left: dict[int, set[str]]) -> bool:
    """Whether some digit of the cell fits nowhere else in one of its units."""
    units = [unit for unit in UNITS if cell in unit]
    return any(
        all(digit not in left.get(other, set()) for other in unit if other != cell)
        for digit, unit in itertools.product(left[cell], units)
    )


def ascending(puzzle: str) -> str:
    """Each row's missing digits in ascending order: right rows, wrong columns."""
    rows = []
    for start in range(0, 16, 4):
        row = puzzle[start : start + 4]
        missing = iter(sorted(set("1234") - set(row)))
        rows.append("".join(next(missing) if digit == "0" else digit for digit in row))
    return "".join(rows)
