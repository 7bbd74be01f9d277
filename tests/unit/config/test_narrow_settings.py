"""Settings that a task says to decide less than the others: what they may not change stays the same."""

import json

import pytest

from unmask.common.errors import InputError
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.schema.introspection import narrow_settings
from unmask.tasks import load, load_for_test


@pytest.mark.parametrize("name", ["chain", "simplify", "sudoku"])
def test_the_number_of_test_examples_changes_no_other_split(name, task_settings):
    settings = task_settings(name) | {"train": 12, "validation": 4, "test": 5}
    assert narrow_settings(name)["test_only"] == load(name, settings).test_only
    assert "test" in narrow_settings(name)["test_only"]
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
    assert narrow_settings("countdown")["reward_only"] == ("rewards",)
    assert load("countdown", settings | {"rewards": "released_d1"}).splits() == load("countdown", settings).splits()


@pytest.mark.parametrize("name", ["gsm8k", "math500"])
def test_the_test_problems_need_no_training_settings(tmp_path, name):
    row = {"question": "q", "answer": "#### 1"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row), encoding="utf-8")
    source = {"source": "local", "path": str(tmp_path / "test.jsonl")}
    assert set(load(name, {"test_source": source, "prompt_file": ""}).splits()) == {"test"}


def specs(config, **changes):
    """The digests of all specs at the papers' scale, and of a base run's and a training run's evaluation."""
    task = config["tasks"]["gsm8k"]
    grid = expand(config | {"scale": "llada-8b", "tasks": config["tasks"] | {"gsm8k": task | changes}})
    runs = {method: f"{method}/gsm8k/default/seed-0" for method in ("base", "dmpo")}
    digests = {name: spec.digest for name, spec in grid.specs.items()}
    return digests | {f"{method} evaluated": grid.evaluated(run, "papers") for method, run in runs.items()}


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def test_a_prompt_of_evaluation_repeats_evaluations_only_and_a_prompt_of_training_no_base_run(config, tmp_path):
    for name in ("training", "evaluation"):
        (tmp_path / f"{name}.txt").write_text(f"{name}: {{question}}", encoding="utf-8")
    training, evaluation = (str(tmp_path / f"{name}.txt") for name in ("training", "evaluation"))
    apart = specs(config, evaluation_prompt_file=evaluation)
    asked = {"data/gsm8k/test", "base evaluated", "dmpo evaluated"}
    assert changed(specs(config), apart) == asked
    trained = changed(apart, specs(config, prompt_file=training, evaluation_prompt_file=evaluation))
    assert {"data/gsm8k", "runs/dmpo/gsm8k/default/seed-0", "dmpo evaluated"} <= trained
    assert not {"data/gsm8k/test", "base evaluated"} & trained
    assert not [name for name in trained if "/base/" in name or ("gsm8k" not in name and "evaluated" not in name)]
    both = specs(config, prompt_file=training)  # `same`: the evaluation poses problems as training does
    assert changed(specs(config), both) >= {"base evaluated", "dmpo evaluated", "data/gsm8k", "data/gsm8k/test"}
    (tmp_path / "moved.txt").write_text("training: {question}", encoding="utf-8")
    assert not changed(both, specs(config, prompt_file=str(tmp_path / "moved.txt")))


def test_test_problems_are_posed_by_the_prompt_of_evaluation(config, tmp_path):
    for name in ("training", "evaluation"):
        (tmp_path / f"{name}.txt").write_text(f"{name}: {{question}}", encoding="utf-8")
    config["tasks"]["gsm8k"] |= {
        "prompt_file": str(tmp_path / "training.txt"),
        "evaluation_prompt_file": str(tmp_path / "evaluation.txt"),
    }
    grid = expand(config | {"scale": "llada-8b"})
    run, example = grid.runs["dmpo/gsm8k/default/seed-0"], {"question": "1+1?", "answer": "2"}
    trained, tested = load("gsm8k", run.task_settings), load_for_test("gsm8k", grid.tests["gsm8k"])
    assert trained.messages(example)[0]["content"] == "training: 1+1?"
    assert tested.messages(example)[0]["content"] == "evaluation: 1+1?"
    for spec, name in ((grid.datasets["gsm8k"], "gsm8k"), (grid.tests["gsm8k"], "math500")):
        with pytest.raises(InputError, match="--test-spec: need test data of the task"):
            load_for_test(name, spec)


def test_a_terse_prompt_reads_no_file(config):
    config["tasks"]["sudoku"] |= {"prompt_file": "nowhere.txt", "evaluation_prompt_file": "nowhere.txt"}
    grid = expand(config)
    assert grid.runs["dmpo/sudoku/default/seed-0"].task_settings["prompt_file"] == ""
    assert grid.tests["sudoku"].settings["evaluation_prompt_file"] == ""


def test_a_choice_among_generated_boards_is_a_mistake(config):
    config["tasks"]["sudoku"]["test_subset"] = {"rule": "numpy_choice", "seed": 42}
    with pytest.raises(ConfigError, match=r"tasks\.sudoku\.test_subset: chooses among stored rows"):
        expand(config)
