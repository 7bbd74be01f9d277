"""Code tasks: rows of published data sets as examples, the program in a response, reward and grade by its tests.

Layouts are told apart by their columns (docs/data.md). Tests stay text in the prepared data; unmask.sandbox reads and
runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unmask.sandbox.cases import Tests
from unmask.sandbox.verdicts import Result, run_tests
from unmask.scoring import Verdict
from unmask.scoring.extraction import cut
from unmask.tasks import Example, Grade
from unmask.tasks._columns import column, preview, statement, text
from unmask.tasks._files import Row
from unmask.tasks._sources import Block, hold_out, load_rows, place_of
from unmask.tasks._stored import Note, Splits, distinct_rows, problem, repeats

INSTRUCTIONS = (
    "Write the Python function that is asked for. Only the standard library is available. End your answer with the "
    "complete program in one block that begins with ```python and ends with ```."
)
FENCE = "```"
LANGUAGES = ("", "python", "python3", "py")
# Models whose pass rates decide which AceCode rows are hard, and the percentiles of mean and deviation: DiffuCoder's
# recipes/process_data.py at f735e01, lines 54 to 71.
RATERS = ("qwen_coder_2.5", "llama3_instruct")
HARD_MEAN, HARD_DEVIATION = 20, 40


@dataclass(frozen=True)
class Fenced:
    """Fenced block of a response."""

    program: str
    proper: bool  # the only one, closed, and at the end


def fenced(response: str) -> Fenced | None:
    """Return the last fenced block before the end token, closed or not; None without a fence."""
    parts = cut(response).split(FENCE)
    if len(parts) < 2:
        return None
    # Blocks are the odd parts; with an even number of parts the last one is never closed.
    last = len(parts) - 2 if len(parts) % 2 else len(parts) - 1
    language, newline, program = parts[last].partition("\n")
    if not newline or language.strip().lower() not in LANGUAGES:
        program = parts[last]
    proper = len(parts) == 3 and not parts[2].strip() and bool(newline)
    return Fenced(program, proper)


def tests_of(example: Example) -> Tests:
    """Return the tests of a prepared example."""
    return Tests(example["form"], tuple(example["tests"]), example["entry"], example["setup"])


def reward(response: str, example: Example) -> dict[str, float]:
    """Return the format, 1 for one closed block at the end that parses, 0.5 if it does not, and the share of tests."""
    block = fenced(response)
    if block is None or not block.proper:
        return {"format": 0.0, "tests": 0.0}
    result = run_tests(block.program, tests_of(example))
    return {"format": 1.0 if result.parses else 0.5, "tests": result.share}


def grade(response: str, example: Example) -> Grade:
    """Grade the last block: correct if it passes every test, the same under both protocols."""
    block = fenced(response)
    if block is None:
        return graded(None, None)
    return graded(block.program, run_tests(block.program, tests_of(example)))


def graded(program: str | None, result: Result | None) -> Grade:
    """Return the grade of a program; the sample's column `hack` is 1 if it tried what no solution needs."""
    if result is None:
        verdict = Verdict(program, 0, note="no fenced block")
        return Grade.of(verdict, verdict, hack=0.0, tests_passed=0.0)
    note = f"tried: {', '.join(result.tried)}" if result.tried else result.note
    verdict = Verdict(program, int(result.solved), note=note)
    return Grade.of(verdict, verdict, hack=float(result.hacked), tests_passed=result.share)


def code_splits(train: Block | None, test: Block | None, rows: str, validation: int, seed: int) -> Splits:
    """Return splits of problems with tests; a training row without a usable test is dropped with a note.

    Training problems of the test set are dropped too, and so are repeated ones, whatever their tests. Raises ValueError
    if a row is malformed, a test row has no usable test, or too few rows are left.
    """
    made: dict[str, list[Row]] = {}
    notes: list[Note] = []
    tested = (
        [_numbered(row, number, test, "test") for number, row in enumerate(load_rows(test, "test"), 1)] if test else []
    )
    if train:
        place = place_of(train, "train")
        found = load_rows(train, "train")
        if rows == "acecode_hard":
            found = hard_rows(found)
        examples, unusable = [], []
        for number, row in enumerate(found, 1):
            try:
                examples.append(example_of(row))
            except UntestableError:
                unusable.append(number)
            except ValueError as error:
                raise ValueError(f"{place}, row {number} of train: {error}") from error
        kept, dropped = distinct_rows(examples, problem, place, map(problem, tested))
        what = "no test that can be run" + (", counted among the hard rows" if rows == "acecode_hard" else "")
        notes += [Note(place, what, unusable, dropped=True), *dropped]
        made["train"], made["validation"] = hold_out(kept, validation, seed)
    if test:
        notes.append(repeats(tested, problem, place_of(test, "test")))
        made["test"] = tested
    return Splits(made, notes)


def _numbered(row: Row, number: int, source: Block, split: str) -> Example:
    try:
        return example_of(row)
    except ValueError as error:
        raise ValueError(f"{place_of(source, split)}, row {number} of {split}: {error}") from error


class UntestableError(ValueError):
    """Row whose tests cannot be read, or that has none."""


def example_of(row: Row) -> Example:
    """Convert a row of HumanEval, MBPP, AceCode or KodCode. Raises UntestableError without a test, else ValueError."""
    for marks, convert in LAYOUTS:
        if all(row.get(mark) is not None for mark in marks):
            question, solution, tests = convert(row)
            break
    else:
        names = "; ".join(", ".join(marks) for marks, _ in LAYOUTS)
        raise ValueError(f"columns {', '.join(map(str, row))} are those of no layout, which has one of: {names}")
    try:
        count = len(tests.cases)
    except ValueError as error:
        raise UntestableError(str(error)) from error
    return {
        "question": question,
        "answer": solution,
        "difficulty": count,
        "solution": solution,
        "form": tests.form,
        "tests": list(tests.texts),
        "entry": tests.entry,
        "setup": tests.setup,
    }


Converted = tuple[str, str, Tests]  # question, solution ("" if there is none), tests


def _humaneval(row: Row) -> Converted:
    prompt = statement(row, "prompt")
    entry = statement(row, "entry_point")
    question = f"Complete this function:\n{FENCE}python\n{prompt.strip()}\n{FENCE}"
    solution = prompt + text(row, "canonical_solution") if row.get("canonical_solution") else ""
    return question, solution, Tests("check", (text(row, "test"),), entry)


def _mbpp(row: Row) -> Converted:
    tests = _texts(row, "test_list")
    imports = row.get("test_imports")
    setup = "\n".join(_texts(row, "test_imports")) if imports is not None and len(imports) else ""
    setup = setup or text(row | {"test_setup_code": row.get("test_setup_code") or ""}, "test_setup_code")
    question = _with_test(statement(row, "text", "prompt"), tests)
    return question, text(row | {"code": row.get("code") or ""}, "code"), Tests("asserts", tests, setup=setup)


def _acecode(row: Row) -> Converted:
    tests = _texts(row, "test_cases")
    question = statement(row, "question")
    # DiffuCoder shows a test only where the question has no code (src/open_r1/grpo.py:99 at f735e01).
    if f"\n{FENCE}\n" not in question:
        question = _with_test(question, tests)
    return question, "", Tests("asserts", tests)


def _kodcode(row: Row) -> Converted:
    question = statement(row, "question")
    for info in row.get("test_info") or []:
        declaration = info.get("function_declaration") if isinstance(info, dict) else None
        if isinstance(declaration, str) and declaration not in question:
            question += f"\n\nThe function is declared as `{declaration}`."
    return (
        question,
        text(row | {"solution": row.get("solution") or ""}, "solution"),
        Tests("module", (text(row, "test"),)),
    )


LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[Row], Converted]], ...] = (
    (("entry_point", "prompt", "test"), _humaneval),
    (("test_list",), _mbpp),
    (("test_cases", "question"), _acecode),
    (("test", "question"), _kodcode),
)


def _texts(row: Row, name: str) -> tuple[str, ...]:
    """Return a column that is a list of texts."""
    found = column(row, name)
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ValueError(f"{name} is {preview(found)}, not a list")
    return tuple(text({name: one}, name) for one in found)


def _with_test(question: str, tests: tuple[str, ...]) -> str:
    """Add the first test, which shows the function's name and arguments."""
    return f"{question.strip()}\n\nA test: `{tests[0].strip()}`" if tests else question


def hard_rows(rows: list[Row]) -> list[Row]:
    """Return DiffuCoder's hard split of AceCode: low mean pass rate, and a deviation that is not among the lowest.

    Percentiles are over all rows: mean at most the 20th, deviation at least the 40th. Raises ValueError if a row has no
    pass rates of the two models.
    """
    means, deviations = [], []
    for number, row in enumerate(rows, 1):
        rates = [one["pass_rate"] for one in row.get("inferences") or [] if one.get("model_name") in RATERS]
        if not rates:
            raise ValueError(
                f"row {number}: no pass rates of {' or '.join(RATERS)} in `inferences`; set train_rows: all"
            )
        means.append(float(np.mean(rates)))
        deviations.append(float(np.std(rates)))
    low, high = np.percentile(means, HARD_MEAN), np.percentile(deviations, HARD_DEVIATION)
    return [
        row for row, mean, deviation in zip(rows, means, deviations, strict=True) if mean <= low and deviation >= high
    ]
