"""The 288 solved 4×4 Sudoku boards, as strings of 16 digits in reading order; in a puzzle, 0 is a blank cell."""

from __future__ import annotations

import functools
from collections import defaultdict

# The cells of each row, column and 2×2 box.
ROWS = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
COLUMNS = [[row[column] for row in ROWS] for column in range(4)]
BOXES = [[corner, corner + 1, corner + 4, corner + 5] for corner in (0, 2, 8, 10)]
UNITS = ROWS + COLUMNS + BOXES


def _peers(cell: int) -> list[int]:
    """Return the cells that share a unit with this one and so may not hold the same digit."""
    peers: set[int] = set()
    for unit in UNITS:
        if cell in unit:
            peers.update(unit)
    return sorted(peers - {cell})


PEERS = [_peers(cell) for cell in range(16)]


@functools.cache
def all_grids() -> list[str]:
    """Return the 288 solved boards in lexicographic order."""
    return solutions("0" * 16)


@functools.cache
def renaming_classes() -> list[list[str]]:
    """Return the solved boards as 12 classes of 24 that are equal up to a permutation of the digits."""
    # The canonical member of a class names its digits 1 to 4 in order of their first appearance.
    classes: defaultdict[str, list[str]] = defaultdict(list)
    for grid in all_grids():
        first_seen = "".join(dict.fromkeys(grid))
        renaming = str.maketrans(first_seen, "1234")
        classes[grid.translate(renaming)].append(grid)
    return list(classes.values())


@functools.cache
def grids_with(cell: int, digit: str) -> int:
    """Return a bit mask of the solved boards with this digit in this cell: bit i is board i of `all_grids()`."""
    mask = 0
    for number, grid in enumerate(all_grids()):
        if grid[cell] == digit:
            mask |= 1 << number
    return mask


def is_unique(puzzle: str) -> bool:
    """Return True if the puzzle has exactly one solution."""
    # Intersecting bit masks is much faster than solving; it makes generating a million puzzles feasible.
    every_board = (1 << len(all_grids())) - 1
    left = every_board
    for cell, digit in enumerate(puzzle):
        if digit != "0":
            left &= grids_with(cell, digit)
    return left.bit_count() == 1


def is_solution(board: str, puzzle: str) -> bool:
    """Return True if the board is a solved one and keeps the givens of the puzzle."""
    return board in all_grids() and keeps_givens(board, puzzle)


def keeps_givens(board: str, puzzle: str) -> bool:
    """Return True if the board has the digits of the puzzle wherever the puzzle has one."""
    cells = zip(puzzle, board, strict=True)
    return all(given in ("0", digit) for given, digit in cells)


def candidates(board: list[str], cell: int) -> set[str]:
    """Return the digits that no peer of the cell holds."""
    held = {board[peer] for peer in PEERS[cell]}
    return set("1234") - held


def solutions(puzzle: str) -> list[str]:
    """Return all solutions of a puzzle in lexicographic order."""
    found: list[str] = []

    def fill(board: list[str]) -> None:
        blanks = [cell for cell in range(16) if board[cell] == "0"]
        if not blanks:
            found.append("".join(board))
            return

        # Branch on the most constrained cell, which keeps the search tree small even for the empty board.
        cell = min(blanks, key=lambda blank: len(candidates(board, blank)))
        for digit in sorted(candidates(board, cell)):
            filled = board.copy()
            filled[cell] = digit
            fill(filled)

    fill(list(puzzle))
    return sorted(found)
