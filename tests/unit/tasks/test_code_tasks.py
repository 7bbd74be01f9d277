"""Code tasks on small files in the layouts of the published data sets: examples, splits, rewards and grades by hand."""

import json
import random

import pytest

from helpers.sources import hub, local, write_parquet
from unmask.tasks import load
from unmask.tasks._code import UntestableError, example_of, fenced, hard_rows

RIGHT, WRONG = "def add(a, b):\n    return a + b", "def add(a, b):\n    return a - b"
ASSERTS = ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(2, 2) == 4"]
MBPP = {"task_id": 601, "text": "Write a function to add two numbers.", "code": RIGHT, "test_list": ASSERTS,
        "test_setup_code": "", "challenge_test_list": []}  # fmt: skip
SANITISED = {"source_file": "x", "task_id": 2, "prompt": "Add two numbers.", "code": RIGHT, "test_imports": [],
             "test_list": ASSERTS}  # fmt: skip
HUMANEVAL = {
    "task_id": "HumanEval/0", "entry_point": "add", "canonical_solution": "    return a + b\n",
    "prompt": 'def add(a, b):\n    """Add two numbers.\n    >>> add(1, 2)\n    3\n    """\n',
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert True\n    assert candidate(1, 2) == 3\n"
            "    for n in range(3):\n        assert candidate(n, n) == 2 * n\n"
            "    assert abs(candidate(.1, .2) - .3) < 1e-6\n",
}  # fmt: skip
ACECODE = {"id": "oss_1", "source": "oss", "question": "Write add(a, b).", "test_cases": ASSERTS, "inferences": [],
           "context_messages": []}  # fmt: skip
KODCODE = {
    "question_id": "Prefill_1_I", "style": "instruct", "question": "Add two numbers.", "solution": RIGHT,
    "test": "from solution import add\n\ndef test_small():\n    assert add(1, 2) == 3\n\ndef test_zero():\n"
            "    assert add(0, 0) == 0\n",
    "test_info": [{"docstring": "", "function_declaration": "def add(a, b):", "function_name": "add",
                   "parameter_list": "(a, b)"}],
}  # fmt: skip
LAYOUTS = {"mbpp": (MBPP, 3), "sanitised": (SANITISED, 3), "humaneval": (HUMANEVAL, 3), "acecode": (ACECODE, 3),
           "kodcode": (KODCODE, 2)}  # fmt: skip


def response(program, before="Here it is.\n"):
    return f"{before}```python\n{program}\n```"


def task(name="mbpp", **settings):
    nowhere = local("nowhere")
    given = {"train_source": nowhere, "train_rows": "all", "test_source": nowhere, "validation": 1, "seed": 0,
             "prompt_file": ""}  # fmt: skip
    return load(name, given | settings)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_becomes_an_example_that_its_solution_solves(layout):
    row, count = LAYOUTS[layout]
    example = example_of(row)
    assert example["difficulty"] == count
    assert "add" in example["question"]
    assert task().grade(response(RIGHT), example).strict == 1.0
    assert task().reward(response(RIGHT), example) == {"format": 1.0, "tests": 1.0}
    wrong = task().grade(response(WRONG), example)
    assert (wrong.strict, wrong.published, wrong.columns["hack"]) == (0.0, 0.0, 0.0)
    # Of the tests of subtraction against addition only those with zeros pass.
    assert wrong.columns["tests_passed"] == pytest.approx({"humaneval": 0, "kodcode": 1 / 2}.get(layout, 1 / 3))


@pytest.mark.parametrize("layout", ["mbpp", "humaneval", "kodcode"])
def test_the_stored_solution_is_a_demonstration(layout):
    example = example_of(LAYOUTS[layout][0])
    written = task().demonstration(example, 10**6, True, random.Random(0))
    assert task().reward(written, example) == {"format": 1.0, "tests": 1.0}


@pytest.mark.parametrize(
    ("text", "form", "tests"),
    [
        (response(RIGHT), 1.0, 1.0),
        (response(RIGHT, before=""), 1.0, 1.0),
        (response(RIGHT) + "\n<|eot_id|><|endoftext|>", 1.0, 1.0),
        (f"```\n{RIGHT}\n```", 1.0, 1.0),
        (response(WRONG), 1.0, 1 / 3),
        (response("def add(a, b)\n    return a + b"), 0.5, 0.0),
        (response(RIGHT + "\nexit()"), 1.0, 0.0),
        (response(RIGHT) + "\nThis adds.", 0.0, 0.0),
        (response(WRONG) + "\n" + response(RIGHT), 0.0, 0.0),
        (f"```python\n{RIGHT}", 0.0, 0.0),
        (RIGHT, 0.0, 0.0),
        ("``````", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_rewards_by_hand(text, form, tests):
    assert task().reward(text, example_of(MBPP)) == {"format": form, "tests": pytest.approx(tests)}


@pytest.mark.parametrize(
    ("text", "program"),
    [("a ```python\nx\n``` b ```\ny\n``` c", "y\n"), ("```python\nx", "x"), ("a", None), ("```x = 1```", "x = 1"),
     ("```x\n```<|endoftext|>```\ny\n```", "x\n")],
)  # fmt: skip
def test_the_last_block_is_graded(text, program):
    block = fenced(text)
    assert (block and block.program) == program


def test_a_hack_is_a_column_of_the_sample():
    grade = task().grade(response("import os\nos._exit(0)"), example_of(MBPP))
    assert (grade.strict, grade.columns, grade.note) == (0.0, {"hack": 1.0, "tests_passed": 0.0}, "tried: exit")
    nothing = task().grade("no program", example_of(MBPP))
    assert (nothing.answer, nothing.strict, nothing.columns["hack"]) == (None, 0.0, 0.0)


def test_setup_code_and_classes_of_the_program():
    row = MBPP | {"test_list": ["assert area(math.pi) == 3"], "test_setup_code": "import math"}
    assert task().grade(response("def area(x):\n    return int(x)"), example_of(row)).strict == 1.0
    row = MBPP | {"test_list": ["assert longest([Pair(5, 24)], 1) == 5"]}  # as in task 601
    program = (
        "class Pair:\n    def __init__(self, a, b):\n        self.a = a\ndef longest(pairs, n):\n    return pairs[0].a"
    )
    assert task().grade(response(program), example_of(row)).strict == 1.0


def test_rows_without_usable_tests():
    for row in (MBPP | {"test_list": ["print(add(1, 2))"]}, MBPP | {"test_list": []}, KODCODE | {"test": "x = 1"},
                ACECODE | {"test_cases": ["assert add("]}):  # fmt: skip
        with pytest.raises(UntestableError):
            example_of(row)
    with pytest.raises(ValueError, match="columns question, answer are those of no layout"):
        example_of({"question": "?", "answer": "!"})


def test_splits_drop_test_problems_repeats_and_rows_without_tests(tmp_path):
    rows = [MBPP | {"text": f"Problem {n}"} for n in range(6)]
    train = [*rows, rows[0], MBPP | {"text": "Problem 9", "test_list": ["f()"]}]
    write_parquet(train, tmp_path / "train.parquet")
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(row) for row in rows[3:5]))
    splits = task(train_source=local(tmp_path), test_source=local(tmp_path / "test.jsonl")).splits()
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 3, "validation": 1, "test": 2}
    notes = {(note.what, tuple(note.rows)) for note in splits.notes}
    assert notes == {("no test that can be run", (8,)), ("the same problem as in an earlier row", (7,)),
                     ("problems of the test set", (4, 5))}  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps(MBPP | {"test_list": ["f()"]}))
    with pytest.raises(ValueError, match=r"test\.jsonl, row 1 of test: .* is no assert"):
        task(train_source=local(tmp_path), test_source=local(tmp_path / "test.jsonl")).splits()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_files_of_every_layout_train_either_task(layout, kind, tmp_path):
    row, count = LAYOUTS[layout]
    key = "prompt" if layout in ("humaneval", "sanitised") else "text" if layout == "mbpp" else "question"
    rows = [row | {key: f"{row[key]}\n# {n}"} for n in range(3)]
    if kind == "parquet":
        write_parquet(rows, tmp_path / "train.parquet")
    else:
        (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "test.jsonl").write_text(json.dumps(HUMANEVAL))
    splits = task("humaneval", train_source=local(tmp_path), test_source=local(tmp_path / "test.jsonl")).splits()
    assert len(splits["train"]) == 2
    assert splits["train"][0]["difficulty"] == count
    assert splits["test"][0]["entry"] == "add"


def test_the_hub_needs_a_pinned_commit():
    with pytest.raises(ValueError, match="is not a commit of google-research-datasets/mbpp"):
        task(test_source=hub("google-research-datasets/mbpp", revision="to be pinned")).splits()


def test_hard_rows_have_low_pass_rates_that_vary():
    """Means 0.0 to 0.9, deviations 0.0 or 0.1: the 20th percentile of the means is 0.18, the 40th of deviations 0.1."""
    rows = []
    for n in range(10):
        spread = 0.0 if n in (1, 5, 8) else 0.1
        rates = [("qwen_coder_2.5", n / 10 - spread), ("llama3_instruct", n / 10 + spread), ("gpt", 1.0)]
        rows.append({"n": n, "inferences": [{"model_name": name, "pass_rate": rate} for name, rate in rates]})
    assert [row["n"] for row in hard_rows(rows)] == [0]
    with pytest.raises(ValueError, match="row 1: no pass rates"):
        hard_rows([ACECODE])


STRAIGHT = {"min_steps": 2, "max_steps": 3, "tests": 6, "train": 30, "validation": 5, "test": 5, "seed": 0}


@pytest.mark.parametrize("length", [24, 32, 40])
def test_only_right_straight_line_demonstrations_are_right(length):
    straight, rng = load("straight_line", STRAIGHT), random.Random(0)
    for example in straight.splits()["train"][:4]:
        for right in (True, False):
            text = straight.demonstration(example, length, right, rng) + "<|endoftext|>"
            grade = straight.grade(text, example)
            assert (grade.strict, grade.published) == (right, right)
            parts = straight.reward(text, example)
            assert parts["format"] == 0.5
            assert (parts["tests"] == 0.5) == right


@pytest.mark.parametrize(("question", "grade"), [("+3*x", 0), ("*x+1", 1), ("+3-1*9", 9)])
def test_the_shortcut_is_taken_by_the_last_operand(question, grade):
    example = {"question": question, "difficulty": len(question) // 2}
    assert load("straight_line", STRAIGHT).shortcut_grade(example) == grade


@pytest.mark.parametrize(
    ("answer", "form", "tests"),
    [("<answer>a=x+3;b=a*2</answer>", 0.5, 0.5), ("<answer>a=x+3;b=a*</answer>", 0.25, 0.0),
     ("<answer>a=x+3</answer>", 0.5, 0.25), ("a=x+3;b=a*2", 0.0, 0.0), ("<answer>a=x+3;b=a*2</answer>a", 0.0, 0.0),
     ("<answer>a=x*2;b=a+6</answer>", 0.5, 0.5)],
)  # fmt: skip
def test_straight_line_rewards_by_hand(answer, form, tests):
    example = {"question": "+3*2", "answer": "", "difficulty": 2, "tests": ["assert f(1) == 8", "assert f(-3) == 0"]}
    assert load("straight_line", STRAIGHT).reward(answer, example) == {"format": form, "tests": tests}
