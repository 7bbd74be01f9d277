"""Countdown: write an expression that uses each of three numbers once and equals the target.

Generated puzzles are the hardest that a tiny model learns in two minutes: numbers from 1 to `largest`, only + and −,
and never solved by adding up all three numbers, which is the shortcut that base models are taught. With multiplication
the same model reached 15 % on numbers up to 20 (docs/laptop.md). The papers train on the three-number puzzles of
Jiayi-Pan/Countdown-Tasks-3to4 and test on 256 of their own; every stored puzzle is solved before it is used.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from unmask.config.schema.types import Count, Source, Whole
from unmask.scoring import published, released, strict
from unmask.scoring.arithmetic import evaluate
from unmask.scoring.extraction import LEADING_ZEROS, boxed_terse, cut, final_answer
from unmask.tasks import SPLITS, Example, Grade, Task
from unmask.tasks._columns import column, preview, text, whole_number
from unmask.tasks._files import Row
from unmask.tasks._prompts import Messages, format_prompt, user_message
from unmask.tasks._sources import Block, as_source, place_of, read_examples
from unmask.tasks._stored import Note, Splits, distinct_rows

Numbers = tuple[int, ...]
SIGNS = (("+", "-"), ("-", "+"), ("-", "-"))  # of generated puzzles
INSTRUCTIONS = (
    "Use each of the given numbers exactly once, with + - * / and parentheses, to write an expression that equals the "
    "target. Think between <reasoning> and </reasoning>, then write only the expression, without an equals sign, as "
    "\\boxed{...} between <answer> and </answer>."
)


@dataclass(frozen=True)
class Puzzle:
    """Numbers and a target, with a solution if one is known."""

    numbers: Numbers
    target: int
    solution: str = ""
    place: str = ""  # file and row of a stored puzzle, as a prefix of messages

    @property
    def key(self) -> tuple[Numbers, int]:
        """Identity of the puzzle, which ignores the order of the numbers."""
        return tuple(sorted(self.numbers)), self.target


@dataclass(frozen=True)
class Countdown(Task):
    """Solvable three-number puzzles; no multiset of numbers with its target is in two splits."""

    # `test` and `test_source` also affect the training split: generated test puzzles come from the same pool, and
    # stored ones are removed from it.
    test_only = ("evaluation_prompt_file",)
    training_only = ("prompt_file",)
    reward_only = ("rewards",)
    question_fields = ("question", "numbers", "target")

    prompt: Literal["terse", "chat"]  # terse: 12,01,04=09, for tiny models
    prompt_file: str  # of training; "" for our own wording; for `chat`
    evaluation_prompt_file: str  # of the test puzzles; `same` for that of training
    train_source: Source  # of the training and validation puzzles
    test_source: Source  # of the test puzzles
    largest: Count  # largest number of generated puzzles
    largest_target: Count  # largest target of generated puzzles
    train: Whole  # training puzzles; 0 is all that the other splits leave
    validation: Count  # validation puzzles
    test: Count  # test puzzles
    seed: int  # of generated puzzles, and of the split
    # Reward function: ours, ours without partial credit (exact), or that of a released code.
    rewards: Literal["corrected", "exact", "released_d1", "released_dmpo"]

    def splits(self) -> dict[str, list[Example]]:
        """Return puzzles in random order; the difficulty is the number of operations other than + in the solution.

        Raises ValueError if the settings ask for more puzzles than there are.
        """
        # Stored test puzzles are fixed first, so that they can be excluded from the pool of all other splits.
        rng = random.Random(self.seed)
        given, notes = self._stored(self.test_source, "test")
        given = given[: self.test]
        tested = {puzzle.key for puzzle in given}
        pool, dropped = self._stored(self.train_source, "train", tested)
        if not pool:
            every = generated_puzzles(self.largest, self.largest_target)
            pool = [puzzle for puzzle in every if puzzle.key not in tested]

        rng.shuffle(pool)
        sizes = {
            "validation": self.validation,
            "test": 0 if given else self.test,
            "train": self.train,
        }
        too_few_given = 0 < len(given) < self.test
        if too_few_given or sum(sizes.values()) > len(pool):
            raise ValueError(f"only {len(given) or len(pool)} puzzles exist; ask for fewer")

        # The training split comes last because it may take whatever the others leave.
        made = {}
        for split, size in sizes.items():
            if split == "train" and size == 0:
                size = len(pool)
            chosen = pool[:size]
            pool = pool[size:]
            made[split] = [_example(puzzle, rng) for puzzle in chosen]
        if not made["train"]:
            raise ValueError("no puzzle is left for training; ask for fewer in the other splits")
        if given:
            made["test"] = [_example(puzzle, rng) for puzzle in given]
        return Splits({split: made[split] for split in SPLITS}, notes + dropped)

    def _stored(
        self,
        source: Block,
        split: str,
        tested: Collection[tuple[Numbers, int]] = (),
    ) -> tuple[list[Puzzle], list[Note]]:
        """Read the distinct three-number puzzles of a source, without those in `tested`; [] if it is `generated`.

        Raises ValueError if no such puzzle is left.
        """
        if as_source(source) is None:
            return [], []

        # The row is kept with each puzzle because it is solved, and may turn out to be unsolvable, only later.
        place = place_of(source, split)
        rows = []
        for number, puzzle in enumerate(read_examples(source, split, _puzzle), 1):
            row = f"{place}, row {number} of {split}: "
            rows.append(replace(puzzle, place=row))
        distinct, notes = distinct_rows(rows, lambda puzzle: puzzle.key, place, tested)
        found = [puzzle for puzzle in distinct if len(puzzle.numbers) == 3]
        if not found:
            which = " that is not tested" if tested else ""
            raise ValueError(f"{split}_source, {place}: no puzzle of three numbers in it{which}")
        return found, notes

    def messages(self, example: Example) -> Messages:
        """Pose the numbers and the target."""
        if self.prompt == "terse":
            numbers = ",".join(f"{n:02d}" for n in example["numbers"])
            return user_message(f"{numbers}={example['target']:02d}")
        return format_prompt(INSTRUCTIONS, example, self.prompt_file, self.question_fields)

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """Return 1.0 for the correct value, 0.1 for the right numbers (released: for any closed answer tag), else 0.

        With `exact`, the right numbers alone earn nothing.
        """
        numbers = [int(number) for number in example["numbers"]]
        is_terse = self.prompt == "terse"

        # Terse puzzles pad numbers to two digits, and the released reward follows Python's syntax, which rejects `09`.
        if self.rewards.startswith("released"):
            text = cut(response)
            if is_terse:
                text = LEADING_ZEROS.sub("", text)
            return released.countdown(text, numbers, example["target"])

        # Read the answer exactly as the strict protocol does, so that full reward and a correct verdict coincide.
        if is_terse:
            answer = final_answer(boxed_terse(response)) or ""
            expressions = strict.sides(answer, numbers)
        else:
            answer = final_answer(cut(response)) or ""
            expressions = strict.expressions(answer, numbers)
        values = [evaluate(expression) for expression in expressions]
        if example["target"] in values:
            return {"value": 1.0}
        if self.rewards != "exact" and any(value is not None for value in values):
            return {"value": 0.1}
        return {"value": 0.0}

    def grade(self, response: str, example: Example) -> Grade:
        """Score the expression under both protocols."""
        numbers = [int(number) for number in example["numbers"]]
        target = int(example["target"])
        if self.prompt == "terse":
            return Grade.of(
                published.terse_countdown(response, numbers, target),
                strict.terse_countdown(response, numbers, target),
            )
        return Grade.of(
            published.countdown(response, numbers, target),
            strict.countdown(response, numbers, target),
        )

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """Write as many steps as fit, then the expression; the steps are the two intermediate results and a check.

        The shortcut adds up the numbers in the given order, which solves no generated puzzle. With `prompt: chat` the
        response is the equation, then the expression in a box, regardless of `length`.
        """
        if self.prompt == "chat":
            written = example["answer"]
            if not right:
                written = "+".join(map(str, example["numbers"]))
            solution = LEADING_ZEROS.sub("", written)
            equation = f"{solution} = {evaluate(solution)}"
            return f"\n{equation}\n</reasoning>\n<answer>\n\\boxed{{{solution}}}\n</answer>"

        a, x, b, y, c = split_expression(example["answer"])
        if not right:
            a, b, c = example["numbers"]
            x = y = "+"

        # Every number is written with two digits, so that each intermediate result takes 8 tokens, one per character.
        first = _combined(a, x, b)
        last = _combined(first, y, c)
        whole = f"{a:02d}{x}{b:02d}{y}{c:02d}"
        steps = [
            f"{a:02d}{x}{b:02d}={first:02d}",
            f"{first:02d}{y}{c:02d}={last:02d}",
            f"{whole}={last:02d}",
        ]
        room = length - 12  # three tags, the expression of 8 tokens and the end of text
        fitting = min(room // 8, 3)
        return f"{''.join(steps[:fitting])}</reasoning><answer>{whole}</answer>"

    def shortcut_grade(self, example: Example) -> float:
        """Return the target: the shortcut, a sum, looks more plausible the larger it is."""
        return float(example["target"])


def generated_puzzles(largest: int, largest_target: int) -> list[Puzzle]:
    """Return every puzzle that needs a minus, each with one solution: a − b + c, a + b − c or a − b − c.

    Of several solutions the one with the largest a is kept. Intermediate results are never negative.
    """
    found: dict[tuple[Numbers, int], str] = {}
    for numbers in itertools.combinations_with_replacement(range(1, largest + 1), 3):
        orders = sorted(set(itertools.permutations(numbers)), reverse=True)
        for (a, b, c), (x, y) in itertools.product(orders, SIGNS):
            first = _combined(a, x, b)
            target = _combined(first, y, c)
            # Targets equal to the sum are excluded: there the shortcut would be correct.
            if first < 0 or target == sum(numbers):
                continue
            if 1 <= target <= largest_target:
                found.setdefault((numbers, target), f"{a:02d}{x}{b:02d}{y}{c:02d}")

    puzzles = []
    for (used, target), solution in sorted(found.items()):
        puzzles.append(Puzzle(used, target, solution))
    return puzzles


def _combined(left: int, sign: str, right: int) -> int:
    if sign == "+":
        return left + right
    return left - right


def solve(numbers: Numbers, target: int) -> str:
    """Find an expression of the three numbers that equals the target. Raises ValueError if there is none."""
    # The two parenthesizations of every ordering cover all expressions of three numbers.
    orders = itertools.permutations(numbers)
    for (a, b, c), x, y in itertools.product(orders, "+-*/", "+-*/"):
        for expression in (f"({a}{x}{b}){y}{c}", f"{a}{x}({b}{y}{c})"):
            if evaluate(expression) == target:
                return expression
    raise ValueError(f"Countdown puzzle {list(numbers)} -> {target} has no solution")


def split_expression(text: str) -> tuple[int, str, int, str, int]:
    """Split a generated solution: `12+01-04` -> (12, "+", 1, "-", 4)."""
    a, x, b, y, c = re.split(r"([+-])", text)
    return int(a), x, int(b), y, int(c)


def _puzzle(row: Row) -> Puzzle:
    """Parse a row as on the hub (`nums`, `target`) or in d1's file (`input` "30,100,93", `output` "23")."""
    if row.get("nums") is None:
        numbers = text(row, "input").split(",")
        target = column(row, "output")
    else:
        numbers = row["nums"]
        target = column(row, "target")
    if not isinstance(numbers, list):
        raise ValueError(f"nums is {preview(numbers)}, not a list")
    whole_numbers = tuple(whole_number(number) for number in numbers)
    return Puzzle(whole_numbers, whole_number(target))


def _example(puzzle: Puzzle, rng: random.Random) -> Example:
    """Return a puzzle as an example, solved if necessary. Raises ValueError naming the row if there is no solution."""
    # Generated numbers are sorted and must be shuffled; stored puzzles are posed exactly as published.
    numbers = list(puzzle.numbers)
    if puzzle.solution:
        numbers = rng.sample(puzzle.numbers, 3)
    try:
        solution = puzzle.solution or solve(puzzle.numbers, puzzle.target)
    except ValueError as error:
        raise ValueError(f"{puzzle.place}{error}") from error
    return {
        "question": f"Numbers: {numbers}\nTarget: {puzzle.target}",
        "answer": solution,
        "difficulty": sum(sign in "-*/" for sign in solution),
        "numbers": numbers,
        "target": puzzle.target,
    }
