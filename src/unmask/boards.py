"""Solved 4×4 Sudoku boards, all 288 of them, as 16 digits in reading order; in a puzzle 0 is a blank cell."""

from __future__ import annotations

import functools

UNITS = (
    [[4 * r + c for c in range(4)] for r in range(4)]
    + [[4 * r + c for r in range(4)] for c in range(4)]
    + [[4 * (r + i) + c + j for i in (0, 1) for j in (0, 1)] for r in (0, 2) for c in (0, 2)]
)
PEERS = [sorted({q for unit in UNITS if p in unit for q in unit} - {p}) for p in range(16)]


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


@functools.cache
def grids_with(cell: int, digit: str) -> int:
    """The solved boards with this digit in this cell, a bit each."""
    return sum(1 << i for i, grid in enumerate(all_grids()) if grid[cell] == digit)


def is_unique(puzzle: str) -> bool:
    """Whether exactly one solved board agrees with the puzzle; quick enough to generate a million."""
    left = (1 << len(all_grids())) - 1
    for cell, digit in enumerate(puzzle):
        if digit != "0":
            left &= grids_with(cell, digit)
    return left.bit_count() == 1


def is_solution(board: str, puzzle: str) -> bool:
    """Whether the board is solved and keeps the givens of the puzzle."""
    return board in all_grids() and all(given in ("0", digit) for given, digit in zip(puzzle, board, strict=True))


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
