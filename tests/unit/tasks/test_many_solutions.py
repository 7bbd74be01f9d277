"""Tasks with many right answers: all of them are enumerated, all are accepted, and each is told from the others."""

import itertools
import random
from collections import Counter

import pytest

from unmask.scoring.arithmetic import evaluate
from unmask.scoring.expression_classes import class_of, classes, sums
from unmask.scoring.sudoku_grids import solutions
from unmask.tasks import load

COUNTDOWN = {"prompt": "chat", "prompt_file": "", "operators": "+-*/", "count": 3, "largest": 9, "largest_target": 30,
             "min_solutions": 2, "train": 4, "validation": 2, "test": 2, "seed": 0}  # fmt: skip
SUDOKU = {"prompt": "terse", "prompt_file": "", "min_blanks": 11, "max_blanks": 14, "min_solutions": 10, "train": 4,
          "validation": 2, "test": 2, "seed": 0}  # fmt: skip


@pytest.mark.parametrize("same", [
    ["3+4*5", "5*4+3", "4*5+3", "3-(-4)*5", "(3)+((5*4))"], ["8-(3-2)", "8+2-3", "(8-3)+2", "2-(3-8)"],
    ["6*2/3", "6/3*2", "6/(3/2)", "2*(6/3)"], ["(1-2)*(3-4)", "(2-1)*(4-3)", "(4-3)*(2-1)"], ["-3+5", "5-3"],
])  # fmt: skip
def test_order_and_grouping_do_not_make_a_class(same):
    (name,) = {class_of(text) for text in same}
    assert evaluate(name) == evaluate(same[0])
    assert class_of(name) == name


@pytest.mark.parametrize(
    ("one", "other"), [("2*(3+4)", "2*3+4"), ("8-3+2", "8-(3+2)"), ("6/2*3", "6/(2*3)"), ("1*2", "2/1"), ("3-2", "2-3")]
)
def test_other_expressions_are_other_classes(one, other):
    assert class_of(one) != class_of(other)


@pytest.mark.parametrize("text", ["", "3+", "a", "1/0", "2**3", "1//2"])
def test_what_has_no_value_has_no_class(text):
    assert class_of(text) is None


@pytest.mark.parametrize(("numbers", "target"), [([1, 2, 3], 6), ([2, 3, 5], 1), ([4, 4, 2], 6), ([1, 1, 1], 1)])
def test_all_classes_of_three_numbers_are_found(numbers, target):
    """Against every order, sign and grouping, written out as text."""
    wanted = set()
    for (a, b, c), x, y in itertools.product(itertools.permutations(numbers), "+-*/", "+-*/"):
        for text in (f"({a}{x}{b}){y}{c}", f"{a}{x}({b}{y}{c})"):
            if evaluate(text) == target:
                wanted.add(class_of(text))
    found = classes(numbers).get(target, {})
    assert set(found) == wanted
    for name, text in found.items():
        assert (class_of(text), evaluate(text), evaluate(name)) == (name, target, target)


@pytest.mark.parametrize("numbers", [[1, 2, 3], [4, 4, 2], [1, 3, 4, 7], [9, 9, 1, 1]])
def test_sums_are_the_classes_without_products(numbers):
    """Against the classes of all expressions, less those that need × or ÷."""
    every = classes(numbers)
    found = sums(numbers)
    for value in range(1, sum(numbers) + 1):
        wanted = {name for name in every.get(value, {}) if not set(name) & set("*/")}
        assert set(found.get(value, {})) == wanted, value
        for name, text in found.get(value, {}).items():
            assert (class_of(text), evaluate(text)) == (name, value)
            assert set(text) <= set("0123456789+-")


def test_terse_puzzles_have_short_answers_and_no_shortcut_that_is_right():
    settings = COUNTDOWN | {"prompt": "terse", "operators": "+-", "count": 6, "min_solutions": 3, "largest_target": 20}
    task, rng = load("countdown_many", settings), random.Random(0)
    for example in task.splits()["train"]:
        (message,) = task.messages(example)
        assert message["content"] == ",".join(map(str, example["numbers"])) + f"={example['target']:02d}"
        for name, expression in zip(example["solutions"], example["expressions"], strict=True):
            assert len(expression) == 11
            grade = task.grade(f"</reasoning><answer>{expression}</answer>", example)
            assert (grade.strict, grade.columns) == (1.0, {"solution": name})
        for right in (True, False):
            assert task.reward(task.demonstration(example, 24, right, rng), example) == {"correct": float(right)}


def test_every_solution_of_a_puzzle_is_right_and_told_from_the_others():
    task, rng = load("countdown_many", COUNTDOWN), random.Random(0)
    for example in task.splits()["train"]:
        assert example["difficulty"] == len(example["solutions"]) >= 2
        for name, expression in zip(example["solutions"], example["expressions"], strict=True):
            grade = task.grade(f"<answer>\\boxed{{{expression}}}</answer>", example)
            assert (grade.strict, grade.columns) == (1.0, {"solution": name})
        right = task.demonstration(example, 0, True, rng)
        assert task.reward(right, example) == {"correct": 1.0}
        wrong = task.grade("<answer>\\boxed{1+1}</answer>", example)
        assert (wrong.strict, wrong.columns) == (0.0, {"solution": ""})


@pytest.mark.parametrize(("name", "settings"), [
    ("countdown_many", COUNTDOWN | {"operators": "+-", "count": 4, "largest": 5, "largest_target": 6, "train": 20}),
    ("sudoku_many", SUDOKU | {"min_blanks": 13, "train": 40}),
])  # fmt: skip
def test_all_problems_are_equally_likely(name, settings):
    """A draw of most problems must not take the likely ones first: the first one is each of them equally often."""
    task, first = load(name, settings), Counter()
    rng = random.Random(0)
    for _ in range(3000):
        if example := task._example(rng):
            first[example["question"] if name == "countdown_many" else example["question"].count("0")] += 1
    if name == "countdown_many":
        mean = sum(first.values()) / len(first)
        # Chi squared with about as many degrees of freedom as there are puzzles.
        assert sum((count - mean) ** 2 for count in first.values()) / mean < 2 * len(first)
    else:
        # By enumeration 5,248 boards have 13 blanks and 1,696 have 14, without those that the shortcut solves.
        assert first[13] / first.total() == pytest.approx(5248 / 6944, abs=0.08)


def test_every_completion_of_a_board_is_right_and_told_from_the_others():
    task, rng = load("sudoku_many", SUDOKU), random.Random(0)
    for example in task.splits()["train"][:5]:
        assert example["solutions"] == solutions(example["question"])
        assert example["difficulty"] == len(example["solutions"]) >= 10
        for board in example["solutions"]:
            grade = task.grade(f"<answer>{board}</answer>", example)
            assert (grade.strict, grade.columns) == (1.0, {"solution": board})
        assert task.shortcut_grade(example) == sum(int(cell) for cell in example["question"] if cell != "0")
        for right in (True, False):
            text = task.demonstration(example, 24, right, rng)
            assert text.startswith("s " if right else "c ")
            assert task.reward(text, example) == {"correct": float(right)}
            assert len(text.replace("</reasoning>", "1").replace("<answer>", "1").replace("</answer>", "1")) == 23
