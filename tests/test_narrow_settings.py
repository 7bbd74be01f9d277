"""Settings that a task says to decide less than the others: what they may not change stays the same."""

import json

import pytest

from unmask.config.declared import narrow_settings
from unmask.tasks import load


@pytest.mark.parametrize("name", ["chain", "simplify", "sudoku"])
def test_the_number_of_test_examples_changes_no_other_split(name, task_settings):
    settings = task_settings(name) | {"train": 12, "validation": 4, "test": 5}
    assert narrow_settings(name)["test_only"] == load(name, settings).test_only == ("test",)
    few, many = (load(name, settings | {"test": count}).splits() for count in (5, 9))
    without = load(name, {key: value for key, value in settings.items() if key != "test"}).splits()
    assert (len(few["test"]), len(many["test"]), set(without)) == (5, 9, {"train", "validation"})
    for split in ("train", "validation"):
        assert json.dumps(few[split]) == json.dumps(many[split]) == json.dumps(without[split])


def test_given_boards_are_all_left_out_of_training_however_many_are_tested(tmp_path, task_settings):
    made = load("sudoku", task_settings("sudoku") | {"split": "random", "test": 20}).splits()["test"]
    rows = "".join(f"{one['question']},{one['answer']}\n" for one in made)
    (tmp_path / "test.csv").write_text(f"Puzzle,Solution\n{rows}", encoding="utf-8")
    source = {"split": "random", "test_source": {"source": "local", "path": str(tmp_path / "test.csv")}}
    settings = task_settings("sudoku") | source
    few, many = (load("sudoku", settings | {"test": count}).splits() for count in (3, 20))
    assert (few["train"], few["validation"]) == (many["train"], many["validation"])
    assert not {one["question"] for one in made} & {one["question"] for one in few["train"] + few["validation"]}


def test_a_reward_setting_changes_no_example(task_settings):
    settings = task_settings("countdown")
    assert narrow_settings("countdown")["reward_only"] == ("partial",)
    assert load("countdown", settings | {"partial": "tags"}).splits() == load("countdown", settings).splits()


@pytest.mark.parametrize("name", ["gsm8k", "math500"])
def test_the_test_problems_need_no_training_settings(tmp_path, name):
    row = {"question": "q", "answer": "#### 1"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row), encoding="utf-8")
    source = {"source": "local", "path": str(tmp_path / "test.jsonl")}
    assert set(load(name, {"test_source": source, "prompt_file": ""}).splits()) == {"test"}
