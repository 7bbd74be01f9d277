"""The 288 solved 4×4 Sudoku boards, as strings of 16 digits in reading order; in a puzzle, 0 is a blank cell."""

from __future__ import annotations

import functools

# Cells of each row, column and 2×2 box; a cell's peers share a unit with it and so may not hold the same digit.
UNITS = (
    [[4 * r + c for c in range(4)] for r in range(4)]
    + [[4 * r + c for r in range(4)] for c in range(4)]
    + [[4 * (r + i) + c + j for i in (0, 1) for j in (0, 1)] for r in (0, 2) for c in (0, 2)]
)
PEERS = [sorted({q for unit in UNITS if p in unit for q in unit} - {p}) for p in range(16)]


@functools.cache
def all_grids() -> list[str]:
    """Return the 288 solved boards in lexicographic order."""
    return solutions("0" * 16)


@functools.cache
def renaming_classes() -> list[list[str]]:
    """Return the solved boards as 12 classes of 24 that are equal up to a permutation of the digits."""
    # The canonical member of a class names its digits 1 to 4 in order of their first appearance.
    classes: dict[str, list[str]] = {}
    for grid in all_grids():
        names = {digit: str(i + 1) for i, digit in enumerate(dict.fromkeys(grid))}
        classes.setdefault("".join(names[d] for d in grid), []).append(grid)
    return list(classes.values())


@functools.cache
def grids_with(cell: int, digit: str) -> int:
    """Return a bit mask of the solved boards with this digit in this cell: bit i is board i of `all_grids()`."""
    return sum(1 << i for i, grid in enumerate(all_grids()) if grid[cell] == digit)


def is_unique(puzzle: str) -> bool:
    """Return True if the puzzle has exactly one solution."""
    # Intersecting bit masks is much faster than solving; it makes generating a million puzzles feasible.
    left = (1 << len(all_grids())) - 1
    for cell, digit in enumerate(puzzle):
        if digit != "0":
            left &= grids_with(cell, digit)
    return left.bit_count() == 1


def is_solution(board: str, puzzle: str) -> bool:
    """Return True if the board is a solved one and keeps the givens of the puzzle."""
    return board in all_grids() and all(given in ("0", digit) for given, digit in zip(puzzle, board, strict=True))


def candidates(board: list[str], cell: int) -> set[str]:
    """Return the digits that no peer of the cell holds."""
    return set("1234") - {board[p] for p in PEERS[cell]}


def solutions(puzzle: str) -> list[str]:
    """Return all solutions of a puzzle in lexicographic order."""
    found: list[str] = []

    def fill(board: list[str]) -> None:
        blanks = [i for i in range(16) if board[i] == "0"]
        if not blanks:
            found.append("".join(board))
            return
        # Branch on the most constrained cell, which keeps the search tree small even for the empty board.
        cell = min(blanks, key=lambda i: len(candidates(board, i)))
        for digit in sorted(candidates(board, cell)):
            fill([*board[:cell], digit, *board[cell + 1 :]])

    fill(list(puzzle))
    return sorted(found)
