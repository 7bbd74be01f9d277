"""Rewards of the released codes: equal to what d1's and DMPO's own functions give.

`released_rewards.jsonl` holds answers made for these tests, with the parts that the reward functions of d1 (commit
837888f, diffu-grpo/reward_func.py) and of DMPO (commit 96af1a4, DMPO/reward_func.py) gave them after `<reasoning>`.
"""

import json
import subprocess
import sys

import pytest

from helpers.paths import DATA, ROOT, SHARED
from unmask.common.errors import InputError
from unmask.config.grid.expand import ConfigError, expand
from unmask.evaluation import rewards
from unmask.evaluation.rewards import REWARDS, task_with
from unmask.scoring import released

CASES = [json.loads(line) for line in (DATA / "released_rewards.jsonl").read_text().splitlines()]
GIVEN = SHARED / "data"
SCRIPT = ROOT / "src" / "score_generations.py"
TASKS = ("gsm8k", "math500", "countdown", "sudoku")
CODES = ("d1", "dmpo")


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", TASKS)
def test_each_part_is_that_of_the_released_function(name, code):
    one = task_with(name, f"released:{code}")
    rows = [row for row in CASES if row["task"] == name]
    given = [list(one.reward(row["response"], row["example"]).values()) for row in rows]
    wrong = [(row, parts) for row, parts in zip(rows, given, strict=True) if parts != pytest.approx(row[code])]
    assert len(rows) > 20
    assert not wrong


def test_the_codes_differ_only_where_a_box_is_to_be_seen():
    differ = [row for row in CASES if row["d1"] != row["dmpo"]]
    assert {row["task"] for row in differ} == {"math500"}
    assert all(abs(row["dmpo"][0] - row["d1"][0]) == pytest.approx(0.25) for row in differ)  # a backspace: -0.25


@pytest.mark.skipif(not GIVEN.exists(), reason="no generations of others here")
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", TASKS)
def test_answers_of_llada_earn_what_the_released_functions_gave_them(name, code):
    rows = [json.loads(line) for line in (GIVEN / "released_rewards" / f"{name}_128.jsonl").read_text().splitlines()]
    given = rewards.reward(name, f"released:{code}", [GIVEN / "llada_8b_instruct_generations" / f"{name}_128.jsonl"])
    wrong = [row for row in rows if given[row["index"]].total != pytest.approx(sum(row[code].values()), abs=1e-6)]
    assert len(rows) >= 256
    assert not wrong


def test_a_right_answer_of_two_lines_earns_less_by_the_released_rule():
    """Line breaks in the reasoning end both patterns of GSM8K, and a box ends the arithmetic of Countdown."""
    answer = "\nfirst\nsecond\n</reasoning>\n<answer>\n18\n</answer>\n"
    totals = [sum(task_with("gsm8k", key).reward(answer, {"answer": "18"}).values()) for key in REWARDS]
    assert totals == pytest.approx([4.0, 3.0, 3.0])
    boxed = r"</reasoning><answer>\boxed{3+4*5}</answer>"
    example = {"numbers": [3, 4, 5], "target": 23}
    assert [task_with("countdown", key).reward(boxed, example) for key in REWARDS] == [
        {"value": 1.0}, {"value": 0.1}, {"value": 0.1}
    ]  # fmt: skip


@pytest.mark.parametrize("rewards", ["released:d1", "released:dmpo"])
def test_terse_countdown_is_read_without_leading_zeros(rewards):
    example = {"numbers": [12, 1, 4], "target": 9}
    one = task_with("countdown", rewards, "terse")
    assert one.reward("12+01=13</reasoning><answer>12+01-04</answer><|endoftext|>", example) == {"value": 1.0}
    assert one.reward("</reasoning><answer>12-01-04</answer><|endoftext|>", example) == {"value": 0.1}


@pytest.mark.parametrize(
    "expression",
    [
        "9**9**9",
        "(9**9)**(9**9)",
        "-" * 5000 + "1",
        "(" * 5000 + "1" + ")" * 5000,
        "9" * 5000,
        "1/0",
        "...",
        "()",
        "(1)(2)",
    ],
)
def test_what_python_could_not_compute_here_has_no_value(expression):
    assert released.evaluate(expression) is None


@pytest.mark.parametrize(
    "text", ["<answer>" * 100_000, "<reasoning></reasoning><answer>" * 40_000, "\n</answer>" * 90_000]
)
def test_a_megabyte_of_tags_is_rewarded_at_once(text):
    for name in TASKS:
        example = next(row["example"] for row in CASES if row["task"] == name)
        task_with(name, "released:d1").reward(text, example)  # pytest's own limit on time would end a quadratic rule


# --- settings ---------------------------------------------------------------------------------------------------------


def runs(config, fidelity):
    config |= {"scale": "llada-8b", "fidelity": fidelity}
    config["scales"]["llada-8b"]["tasks"] = list(TASKS)
    return expand(config)


def has_own_rewards(run):
    """A trained run on these tasks, but for those of a grid over rewards (partial_credit)."""
    return run.trains and run.task in TASKS and "rewards~" not in run.variant


def test_each_method_has_the_rewards_of_its_own_code(config):
    found = {}
    for run in runs(config, "released").runs.values():
        if has_own_rewards(run):
            found.setdefault(run.method, set()).add(run.task_settings["rewards"])
    assert found["dmpo"] == found["dmpo_sft"] == {"released_dmpo"}
    assert found["d1"] == found["diffu_grpo"] == found["coupled_grpo"] == found["diffpo"] == {"released_d1"}


@pytest.mark.parametrize("fidelity", ["corrected", "paper"])
def test_other_presets_have_the_corrected_rewards(config, fidelity):
    trained = [run for run in runs(config, fidelity).runs.values() if has_own_rewards(run)]
    assert {run.task_settings["rewards"] for run in trained} == {"corrected"}


def test_whose_rewards_they_are_changes_training_runs_only(config):
    grids = []
    for kind in ("corrected", "released_dmpo"):
        config["methods"]["dmpo"]["task_settings"] = {"sudoku": {"rewards": kind}}
        grids.append(runs(config, "corrected"))
    digests = [{name: run.digest for name, run in grid.runs.items()} for grid in grids]
    changed = {name for name in digests[0] if digests[0][name] != digests[1][name]}
    assert changed
    assert all(name.startswith("dmpo/sudoku/") for name in changed)
    assert [one.digest for one in grids[0].datasets.values()] == [one.digest for one in grids[1].datasets.values()]


def test_a_method_can_change_nothing_of_a_task_but_the_reward(config):
    config["methods"]["dmpo"]["task_settings"] = {"sudoku": {"seed": 1}, "sudku": {}, "gsm8k": {"rewards": "d1"}}
    with pytest.raises(ConfigError) as error:
        expand(config)
    said = str(error.value)
    assert "methods.dmpo.task_settings.sudoku.seed: only rewards may differ from method to method" in said
    assert "methods.dmpo.task_settings: unknown 'sudku'; did you mean 'sudoku'?" in said
    assert "methods.dmpo.task_settings.gsm8k.rewards: input should be 'corrected', 'released_d1' or" in said


# --- score_generations.py --reward ------------------------------------------------------------------------------------


def run(*words):
    return subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True)


def record(answer, truth=18.0, **more):
    return {"question": "q", "generations": answer, "ground_truth": truth, **more}


RIGHT = "\nwork\n</reasoning>\n<answer>\n18\n</answer>\n"


def test_means_and_single_rewards_are_printed(tmp_path):
    file = tmp_path / "a.json"
    records = [record(RIGHT + "<|eot_id|>", seed=1), record("no", seed=2), record(RIGHT, None, seed=2)]
    file.write_text(json.dumps({"generations": records}))
    whole = ("--task", "gsm8k", "--reward", "released:d1", file)
    first, *lines = run(*whole, "--samples").stdout.splitlines()
    said = json.loads(first)
    assert (said["reward"], said["records"], said["mean"]) == ("released:d1", 3, pytest.approx((3.5 + 1.5) / 3))
    assert [line.split("\t")[:2] for line in lines] == [
        [f"{file}:1", "3.5"], [f"{file}:2", "0.0"], [f"{file}:3", "1.5"]
    ]  # fmt: skip
    assert sum(json.loads(lines[0].split("\t")[2]).values()) == 3.5
    groups = [json.loads(line) for line in run(*whole, "--by", "seed").stdout.splitlines()[1:]]
    assert [(one["seed"], one["mean"]) for one in groups] == [(1, 3.5), (2, 0.75)]


def test_all_rewards_of_all_tasks_can_be_asked_for(tmp_path):
    files = {
        "gsm8k": record(RIGHT), "math500": record(r"<answer>\boxed{18}</answer>", "18"),
        "countdown": record("<answer>3+4*5</answer>", [[3, 4, 5], 23]),
        "sudoku": record("<answer>1234432121433412</answer>", "1234432121433412") | {"question": "0204032001400402"},
    }  # fmt: skip
    full = {"gsm8k": 4.0, "math500": 3.0, "countdown": 1.0, "sudoku": 1.0}
    for name, one in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps([one]))
        means = [
            rewards.summary(name, key, rewards.reward(name, key, [tmp_path / f"{name}.json"]))["mean"]
            for key in REWARDS
        ]
        assert means == {"gsm8k": [4.0, 3.5, 3.5], "math500": [3.0, 2.75, 3.0]}.get(name, [full[name]] * 3)


def test_broken_records_stop_it_unless_told_otherwise(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(record(RIGHT)) + "\n{}\n")
    words = ("--task", "gsm8k", "--reward", "corrected", file)
    done = run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{file}:2: no generations, ground_truth, question" in done.stderr
    assert json.loads(run(*words, "--lenient").stdout)["mean"] == 2.0


def test_a_stand_in_has_no_released_reward(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps([record("</reasoning><answer>7</answer>", 7)]))
    assert rewards.reward("chain", "corrected", [file])[0].total == 1.0
    with pytest.raises(InputError, match="d1 and DMPO have no reward for chain; take corrected"):
        rewards.reward("chain", "released:d1", [file])
    said = run("--task", "gsm8k", "--reward", "corrected", "--protocol", "strict", file).stderr
    assert "not allowed with argument" in said
