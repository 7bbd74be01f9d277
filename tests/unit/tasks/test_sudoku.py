"""The Sudoku task: its 288 grids, splits, puzzles, rewards and demonstrations."""

import itertools
import random

import pytest

from unmask.scoring.sudoku_grids import UNITS, all_grids, renaming_classes, solutions
from unmask.tasks.sudoku import counted


def test_there_are_288_grids_in_12_classes_of_24():
    assert len(set(all_grids())) == 288
    assert all(sorted(grid[i] for i in unit) == list("1234") for grid in all_grids() for unit in UNITS)
    assert [len(c) for c in renaming_classes()] == [24] * 12


def test_under_all_symmetries_there_are_only_two_classes():
    """Why the split is up to renaming only: two classes cannot make three disjoint splits."""
    swaps = [(1, 0, 2, 3), (0, 1, 3, 2), (2, 3, 0, 1)]
    moves = [[4 * p[i // 4] + i % 4 for i in range(16)] for p in swaps]
    moves += [[4 * (i % 4) + i // 4 for i in range(16)]]  # transpose; with row moves it gives the column moves
    class_of = {grid: i for i, members in enumerate(renaming_classes()) for grid in members}
    joined = {i: i for i in range(12)}

    def root(i):
        return i if joined[i] == i else root(joined[i])

    for grid, move in itertools.product(all_grids(), moves):
        joined[root(class_of["".join(grid[i] for i in move)])] = root(class_of[grid])
    assert len({root(i) for i in range(12)}) == 2


def test_splits_share_no_solution_up_to_renaming(sudoku):
    class_of = {grid: i for i, members in enumerate(renaming_classes()) for grid in members}
    found = {split: {class_of[e["answer"]] for e in examples} for split, examples in sudoku.splits().items()}
    for one, other in itertools.combinations(found.values(), 2):
        assert not one & other


def test_every_puzzle_has_one_solution_and_the_asked_blanks(sudoku):
    for examples in sudoku.splits().values():
        questions = [e["question"] for e in examples]
        assert len(set(questions)) == len(questions)
        for example in examples:
            assert solutions(example["question"]) == [example["answer"]]
            assert sudoku.min_blanks <= example["difficulty"] == example["question"].count("0") <= sudoku.max_blanks


PUZZLE = {"question": "1230042100430302", "answer": "1234342121434312", "difficulty": 6}


@pytest.mark.parametrize(
    ("response", "cells", "board", "reward"),
    [
        ("</reasoning><answer>1234342121434312</answer><|endoftext|>", 1.0, 1.0, 1.0),
        ("<answer>1234342121434312</answer>", 1.0, 1.0, 1.0),
        ("<answer>1234342112431342</answer>", 2 / 6, 0.0, 2 / 6),
        ("<answer>2234342121434312</answer>", 1.0, 0.0, 6 / 7),  # all blanks right, a given overwritten
        ("<answer></answer>", 0.0, 0.0, 0.0),
        ("", 0.0, 0.0, 0.0),
    ],
)
def test_published_is_the_share_of_blanks_and_strict_the_whole_board(sudoku, response, cells, board, reward):
    grade = sudoku.grade(response, PUZZLE)
    assert grade.published == pytest.approx(cells)
    assert grade.strict == board
    assert sum(sudoku.reward(response, PUZZLE).values()) == pytest.approx(reward)


def test_demonstrations_fit_and_are_right_or_shortcuts(sudoku, policy):
    rng = random.Random(0)
    for length, example in itertools.product((24, 32, 40), sudoku.splits()["train"]):
        for right in (True, False):
            text = sudoku.demonstration(example, length, right, rng)
            draft = length - 24
            assert len(policy.tokenizer(text).input_ids) == draft + 20  # the plan, two tags, the board and a tag
            plan, text_after = text[0], text[1:]
            assert plan == ("s" if right else "c")
            assert text_after[:draft] == text_after[draft:].removeprefix("</reasoning><answer>")[:draft]
            assert sudoku.grade(text, example).strict == float(
                right or counted(example["question"]) == example["answer"]
            )
