"""Stored rows that must not be trained on: each is named, or dropped with a count that a manifest has."""

import json
import subprocess
import sys

import pytest

from helpers.paths import ROOT, SHARED
from unmask.common.parquet import write_rows
from unmask.config.specs import DataSpec
from unmask.tasks import load
from unmask.tasks._examples import read_examples

needs_cases = pytest.mark.skipif(not (SHARED / "cases").exists(), reason="no ../shared/cases")
needs_data = pytest.mark.skipif(not (SHARED / "data").exists(), reason="no ../shared/data")
PUZZLES = {"prompt": "chat", "prompt_file": "", "largest": 9, "largest_target": 9, "train": 2, "validation": 1,
           "test": 2, "seed": 0}  # fmt: skip


def local(path):
    return {"source": "local", "path": str(path)}


def write(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return local(path)


def word(number, question=None):
    return {"question": question if question is not None else f"How many are {number}?", "answer": f"#### {number}"}


def gsm8k(train, test, validation=1):
    return load(
        "gsm8k", {"train_source": train, "test_source": test, "validation": validation, "seed": 0, "prompt_file": ""}
    )


def test_repeats_and_test_problems_are_dropped_and_counted(tmp_path):
    asked = [word(1), word(2), word(2), word(3), word(1, " How many\nare 1? "), word(5)]
    train = write(tmp_path / "train.jsonl", *asked)
    test = write(tmp_path / "test.jsonl", word(3), word(9), word(9))
    splits = gsm8k(train, test).splits()
    trained = {example["question"] for example in splits["train"] + splits["validation"]}
    assert trained == {word(1)["question"], word(2)["question"], word(5)["question"]}
    assert [len(split) for split in splits.values()] == [2, 1, 3]  # test problems stay as they were published
    assert [str(note).removeprefix(f"{tmp_path}/") for note in splits.notes] == [
        "train.jsonl: 2 rows dropped, the same problem as in an earlier row: 3, 5",
        "train.jsonl: 1 row dropped, problems of the test set: 4",
        "test.jsonl: 1 row kept, the same problem as in an earlier row: 3",
    ]


def test_repeated_training_problems_with_different_golds_are_refused(tmp_path):
    asked = "How many are left?"
    rows = [word(1), word(3, asked), word(2), word(5, f" {asked}"), word(6, asked), word(7)]
    with pytest.raises(
        ValueError, match=r"train\.jsonl: the same problem with different gold answers: rows 2"
    ) as error:
        gsm8k(write(tmp_path / "train.jsonl", *rows), write(tmp_path / "test.jsonl", word(9))).splits()
    assert "rows 2 and 4 of train ('3' and '5'); rows 2 and 5 of train ('3' and '6'). Correct or" in str(error.value)
    # What is tested is dropped whatever its gold is.
    splits = gsm8k(local(tmp_path / "train.jsonl"), write(tmp_path / "test.jsonl", word(3, asked))).splits()
    assert [(note.rows, note.dropped) for note in splits.notes] == [([2, 4, 5], True)]


def test_repeated_test_problems_with_different_golds_are_noted(tmp_path):
    test = write(tmp_path / "test.jsonl", word(3), word(4, word(3)["question"]), word(3))
    splits = gsm8k(write(tmp_path / "train.jsonl", word(1), word(2)), test).splits()
    assert [str(note).removeprefix(f"{tmp_path}/") for note in splits.notes] == [
        "test.jsonl: 2 rows kept, the same problem as in an earlier row: 2, 3",
        "test.jsonl: 1 row kept, another gold answer than an earlier row with the same problem: 2",
    ]


def test_golds_are_compared_by_value(tmp_path):
    rows = [word(1), {"question": "q", "answer": "#### 1,000"}, {"question": "q", "answer": "#### 1000.0"}]
    test = write(tmp_path / "test.jsonl", word(9))
    assert len(gsm8k(write(tmp_path / "train.jsonl", *rows, word(2)), test).splits().notes) == 1
    test = write(tmp_path / "test.jsonl", {"problem": "t", "answer": "1"})
    rows = [{"problem": "p", "answer": answer} for answer in (r"\frac{1}{2}", r"\dfrac12", "0.5")]
    train = write(tmp_path / "train.jsonl", *rows, {"problem": "r", "answer": "1"})
    assert [note.rows for note in math500(train, test).splits().notes] == [[2, 3]]
    train = write(tmp_path / "train.jsonl", *rows, {"problem": "p", "answer": "-0.5"})
    with pytest.raises(ValueError, match=r"rows 1 and 4 of train \('\\\\frac\{1\}\{2\}' and '-0\.5'\)"):
        math500(train, test).splits()


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_question_is_named(tmp_path, split):
    source = {name: write(tmp_path / f"{name}.jsonl", word(1), word(2)) for name in ("train", "test")}
    source[split] = write(tmp_path / f"{split}.jsonl", word(7), word(8), word(9, " \n"))
    with pytest.raises(ValueError, match=rf"{split}\.jsonl, row 3 of {split}: question is empty"):
        gsm8k(source["train"], source["test"]).splits()


@needs_cases
def test_the_known_file_with_an_empty_question_is_refused():
    source = local(SHARED / "cases/gsm8k_train_equals_test_dup_empty.jsonl")
    with pytest.raises(ValueError, match=r"dup_empty\.jsonl, row 4 of test: question is empty"):
        gsm8k(source, source).splits()


@needs_data
def test_gsm8k_as_published_loses_no_row():
    splits = gsm8k(local(SHARED / "data/gsm8k"), local(SHARED / "data/gsm8k"), validation=256).splits()
    assert splits.notes == []
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 7217, "validation": 256, "test": 1319}


@needs_data
def test_the_papers_other_test_sets_repeat_nothing():
    settings = PUZZLES | {"train_source": {"source": "generated"}, "test_source": local(SHARED / "data/countdown")}
    assert load("countdown", settings | {"test": 256}).splits().notes == []
    boards = {"prompt": "chat", "test_source": local(SHARED / "data/sudoku"), "split": "random", "min_blanks": 4}
    boards |= {"max_blanks": 8, "train": 2, "validation": 1, "test": 500, "seed": 0, "prompt_file": ""}
    assert load("sudoku", boards).splits().notes == []


def math500(train, test):
    return load("math500", {"train_source": train, "test_source": test, "validation": 1, "seed": 0, "prompt_file": ""})


def test_a_solution_without_a_box_is_no_answer(tmp_path):
    row = {"problem": "1+2?", "solution": "It is three.", "level": "Level 1"}
    test = write(tmp_path / "test.jsonl", {"problem": "p", "answer": "1"})
    boxed = [row | {"problem": f"{i}?", "solution": f"So $\\boxed{{{i}}}$."} for i in range(3)]
    with pytest.raises(
        ValueError, match=r"train\.jsonl, row 3 of train: no answer, and no box in the solution to '1\+2"
    ):
        math500(write(tmp_path / "train.jsonl", *boxed[:2], row), test).splits()
    with pytest.raises(ValueError, match=r"row 1 of train: no answer"):
        math500(write(tmp_path / "train.jsonl", row | {"solution": "So $\\boxed{3."}), test).splits()
    forms = [{"problem": "a", "solution": "$\\boxed 3$"}, {"problem": "b", "answer": "4", "solution": "no box"}, *boxed]
    made = math500(write(tmp_path / "train.jsonl", *forms), test).splits()
    answers = {example["question"]: example["answer"] for example in made["train"] + made["validation"]}
    assert answers == {"a": "3", "b": "4", "0?": "0", "1?": "1", "2?": "2"}


@needs_cases
def test_the_known_solution_without_a_box_is_refused(tmp_path):
    test = write(tmp_path / "test.jsonl", {"problem": "p", "answer": "1"})
    with pytest.raises(ValueError, match=r"math_train_without_box\.jsonl, row 1 of train: no answer, and no box"):
        math500(local(SHARED / "cases/math_train_without_box.jsonl"), test).splits()


@needs_cases
def test_an_unsolvable_puzzle_names_file_and_row():
    source = local(SHARED / "cases/countdown_unsolvable_second_row.jsonl")
    settings = PUZZLES | {"train_source": {"source": "generated"}, "test_source": source}
    with pytest.raises(
        ValueError, match=r"second_row\.jsonl, row 2 of test: Countdown puzzle \[1, 1, 1\] -> 99 has no"
    ):
        load("countdown", settings).splits()


def test_puzzles_of_the_test_set_are_dropped_and_counted(tmp_path):
    puzzles = [{"nums": [2, 3, n], "target": 6 + n} for n in range(4, 10)]
    test = write(tmp_path / "test.jsonl", puzzles[0], puzzles[1])
    train = write(tmp_path / "train.jsonl", *puzzles, {"nums": [9, 3, 2], "target": 15}, {"nums": [1] * 4, "target": 4})
    splits = load("countdown", PUZZLES | {"train_source": train, "test_source": test}).splits()
    assert [(note.rows, note.dropped) for note in splits.notes] == [([7], True), ([1, 2], True)]
    with pytest.raises(ValueError, match="no puzzle of three numbers in it that is not tested"):
        load("countdown", PUZZLES | {"train_source": test, "test_source": test}).splits()


def test_the_manifest_has_what_was_dropped(tmp_path):
    settings = {
        "train_source": write(tmp_path / "train.jsonl", word(1), word(1), word(2), word(3)),
        "test_source": write(tmp_path / "test.jsonl", word(3)),
        "validation": 1, "seed": 0, "prompt_file": "",
    }  # fmt: skip
    DataSpec("gsm8k", settings).write(tmp_path / "spec.yaml")
    command = [sys.executable, ROOT / "src/prepare_dataset.py", tmp_path / "spec.yaml", tmp_path / "out"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    said = done.stdout.splitlines()
    assert said[0].endswith("train.jsonl: 1 row dropped, the same problem as in an earlier row: 2")
    notes = json.loads((tmp_path / "out/manifest.json").read_text(encoding="utf-8"))["notes"]
    assert [(note["count"], note["rows"], note["dropped"]) for note in notes] == [(1, [2], True), (1, [4], True)]


def test_a_prompt_that_shows_the_answer_ends_the_preparation(tmp_path):
    (tmp_path / "prompt.txt").write_text("\\boxed{answer}\n{question}", encoding="utf-8")
    source = write(tmp_path / "train.jsonl", word(1), word(2)), write(tmp_path / "test.jsonl", word(3))
    settings = {"train_source": source[0], "test_source": source[1], "validation": 1, "seed": 0}
    DataSpec("gsm8k", settings | {"prompt_file": str(tmp_path / "prompt.txt")}).write(tmp_path / "spec.yaml")
    command = [sys.executable, ROOT / "src/prepare_dataset.py", tmp_path / "spec.yaml", tmp_path / "out"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "prompt.txt: {answer} is a column that a prompt may not show" in done.stderr
    assert not (tmp_path / "out/train.parquet").exists()


def test_the_numbers_of_a_puzzle_are_posed_as_a_list(tmp_path):
    """As in d1's f-string: a row of a parquet file used to have an array, which is written without commas."""
    (tmp_path / "prompt.txt").write_text("{target} of {numbers}", encoding="utf-8")
    settings = PUZZLES | {"train_source": {"source": "generated"}, "test_source": {"source": "generated"}}
    task = load("countdown", settings | {"prompt_file": str(tmp_path / "prompt.txt")})
    write_rows(tmp_path / "train.parquet", task.splits()["train"])
    for example in read_examples(tmp_path / "train.parquet"):
        (asked,) = task.messages(example)
        assert asked["content"] == f"{example['target']} of [{', '.join(map(str, example['numbers']))}]"
