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


def test_test_problems_of_gsm8k_change_no_training_problem(tmp_path):
    for name, count in (("train", 9), ("test", 3), ("other", 5)):
        rows = [{"question": f"{name} {i}", "answer": f"#### {i}"} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = {name: {"source": "local", "path": str(tmp_path / f"{name}.jsonl")} for name in ("train", "test", "other")}
    settings = {"train_source": source["train"], "validation": 2, "seed": 0, "prompt_file": ""}
    splits = [load("gsm8k", settings | change).splits() for change in ({}, {"test_source": source["test"]})]
    splits.append(load("gsm8k", settings | {"test_source": source["other"]}).splits())
    assert all(one["train"] == splits[0]["train"] and one["validation"] == splits[0]["validation"] for one in splits)
    assert "test" not in splits[0]
    assert set(load("gsm8k", {"test_source": source["test"], "prompt_file": ""}).splits()) == {"test"}
