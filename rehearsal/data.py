"""Data files in the layouts of the Hub and of d1, with problems that the random checkpoints can solve by chance."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from vocabulary import BOARDS, EXPRESSIONS

TARGETS = dict(zip(EXPRESSIONS, (6, 6, 9, 8, 4, 5, 2, 7), strict=True))


def write_data(folder: Path, train: int, test: int) -> None:
    """Write all files: `train` training problems (including validation) and `test` test problems per task, and s1K."""
    folder.mkdir(parents=True)
    write_lines(folder / "gsm8k_train.jsonl", [gsm8k_row(i) for i in range(train)])
    write_lines(folder / "gsm8k_test.jsonl", [gsm8k_row(i) for i in range(train, train + test)])
    write_lines(folder / "math_train.jsonl", [math_row(i) for i in range(train)])
    # The published test set, MATH-500, has the level as a number, the training set as text.
    tested = [math_row(i) for i in range(train, train + test)]
    write_lines(folder / "math500_test.jsonl", [row | {"level": int(row["level"][-1])} for row in tested])
    # Puzzles use the numbers 1, 2 and 3, as the favoured answers do: they earn partial and sometimes full reward.
    puzzles = [{"target": value, "nums": [2, 3, 1]} for value in sorted(set(TARGETS.values()))]
    others = [{"target": 10 + i + i + 1, "nums": [10, i, i + 1]} for i in range(train)]
    write_lines(folder / "countdown_train.jsonl", puzzles + others)
    held = [{"input": f"{20 + i},1,2", "output": str(23 + i)} for i in range(test)]
    write_lines(folder / "countdown_test.jsonl", held)

    # d1's Sudoku test set is a CSV file in which zeros are the blanks.
    with (folder / "sudoku_test.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Puzzle", "Solution"])
        rows.writerows(["0" * (6 + i) + BOARDS[i % len(BOARDS)][6 + i :], BOARDS[i % len(BOARDS)]] for i in range(test))
    write_lines(folder / "s1k.jsonl", [s1k_row(i) for i in range(train)])


def gsm8k_row(i: int) -> dict[str, Any]:
    """Return a row in the layout of openai/gsm8k."""
    a, b = 2 + i % 5, 1 + i
    solution = f"She has {a} + {b} = <<{a}+{b}={a + b}>>{a + b} apples.\n#### {a + b}"
    return {"question": f"Mia has {a} apples and buys {b} more. How many apples does she have?", "answer": solution}


def math_row(i: int) -> dict[str, Any]:
    """Return a row of MATH with the columns of ankner/math-500 and HuggingFaceH4/MATH-500."""
    a, b = 1 + i, 2 + i
    return {
        "problem": f"What is $\\frac{{{a}}}{{{b}}} \\cdot {2 * b}$?",
        "solution": f"We have $\\frac{{{a}}}{{{b}}} \\cdot {2 * b} = {a} \\cdot 2$, so it is $\\boxed{{{2 * a}}}$.",
        "answer": str(2 * a),
        "subject": "Prealgebra",
        "level": f"Level {1 + i % 5}",
        "unique_id": f"test/prealgebra/{i}.json",
    }


def s1k_row(i: int) -> dict[str, Any]:
    """Return a row in the layout of simplescaling/s1K; its trace is longer than training keeps."""
    a, b = 12 + i, 7 + i
    steps = "\n".join(f"Step {k}: {a} times {k} is {a * k}, which is still less than {a * b}." for k in range(1, 400))
    return {
        "solution": f"The product is {a * b}.",
        "question": f"Compute the product of {a} and {b}.",
        "cot_type": "math",
        "source_type": "rehearsal/products",
        "metadata": "{}",
        "cot": None,
        "thinking_trajectories": [steps],
        "attempt": f"The product is \\boxed{{{a * b}}}.",
    }


def texts() -> list[str]:
    """Return the training texts of the tokenizers: the tasks' instructions and some of the problems."""
    from unmask.tasks import countdown, gsm8k, math500, sudoku

    instructions = [module.INSTRUCTIONS for module in (countdown, gsm8k, math500, sudoku)]
    problems = [json.dumps(row(i)) for row in (gsm8k_row, math_row, s1k_row) for i in range(3)]
    return 20 * instructions + problems


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write JSON lines."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
