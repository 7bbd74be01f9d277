"""Demonstrations for models that read: each earns the whole reward and both protocols' right verdict."""

import json
import random

import pytest

from helpers.paths import SHARED
from unmask.common.errors import InputError
from unmask.config.schema.samplers import RandomOrder
from unmask.methods.sft import Sft
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import load, total_reward

DATA = SHARED / "data"
GENERATED = {"source": "generated"}
SUDOKU = {
    "prompt": "chat", "prompt_file": "", "test_source": GENERATED, "split": "random", "min_blanks": 4, "max_blanks": 11,
    "train": 64, "validation": 16, "test": 16, "seed": 0, "rewards": "corrected",
}  # fmt: skip
COUNTDOWN = {
    "prompt": "chat", "prompt_file": "", "train_source": GENERATED, "test_source": GENERATED, "largest": 20,
    "largest_target": 30, "train": 64, "validation": 16, "test": 16, "seed": 0, "rewards": "corrected",
}  # fmt: skip


def stored(**changes):
    nowhere = {"source": "local", "path": "nowhere"}
    return {"train_source": nowhere, "test_source": nowhere, "validation": 1, "seed": 0, "prompt_file": ""} | changes


GSM8K = stored(rewards="corrected")
MATH500 = stored(rewards="corrected")


def demonstrate(task, example, right=True):
    return task.demonstration(example, 256, right, random.Random(0))


def check(task, example, reward):
    for end in ("", "<|eot_id|>", "<|endoftext|><|endoftext|>"):
        text = demonstrate(task, example) + end
        grade = task.grade(text, example)
        assert (total_reward(task, text, example), grade.published, grade.strict) == (reward, 1, 1), text


def real(task, split):
    """Real rows of a task, read as its step reads them; without them the test is skipped."""
    from unmask.tasks import countdown, gsm8k, math500, sudoku
    from unmask.tasks._files import file_rows

    files = {"countdown": "test.jsonl", "sudoku": "test.csv"}
    file = DATA / task / files.get(task, f"{split}.jsonl")
    if not file.exists():
        pytest.skip(f"no {file}")
    if task == "countdown":
        return [countdown._example(countdown._puzzle(row), random.Random(0)) for row in file_rows(file)]
    module = {"gsm8k": gsm8k, "math500": math500, "sudoku": sudoku}[task]
    return [module._example(row) for row in file_rows(file)]


@pytest.mark.parametrize("split", ["train", "test"])
def test_gsm8k_on_real_rows(split):
    task, examples = load("gsm8k", GSM8K), real("gsm8k", split)
    for example in examples:
        whole = example["answer"].replace(",", "").isdigit()  # the format pays 0.5 for digits alone
        check(task, example, 4.0 if whole else 3.5)
        assert "<<" not in demonstrate(task, example)


def test_math500_on_real_answers():
    task = load("math500", MATH500)
    for example in real("math500", "test"):
        solution = f"We find \\boxed{{{example['answer']}}}, or $\\boxed 7$."
        check(task, example | {"solution": solution}, 3.0)


def test_countdown_on_real_rows():
    for example in real("countdown", "test"):
        check(load("countdown", COUNTDOWN), example, 1.0)


def test_sudoku_on_real_rows():
    for example in real("sudoku", "test"):
        check(load("sudoku", SUDOKU), example, 1.0)


@pytest.mark.parametrize(("name", "settings"), [("countdown", COUNTDOWN), ("sudoku", SUDOKU)])
def test_generated_puzzles_asked_in_words(name, settings):
    task = load(name, settings)
    for example in task.splits()["train"]:
        check(task, example, 1.0)
        shortcut = task.grade(demonstrate(task, example, right=False), example)
        assert shortcut.strict == 0


def test_the_texts_by_hand():
    example = {"question": "?", "answer": "1,072", "solution": "48/2 = <<48/2=24>>24 clips.\nIn all 1072."}
    text = "\n48/2 = 24 clips.\nIn all 1072.\n</reasoning>\n<answer>\n1072\n</answer>"
    assert demonstrate(load("gsm8k", GSM8K), example) == text
    example = {"question": "?", "answer": "\\frac12", "solution": "So $x = \\boxed{\\frac12}$."}
    text = "\nSo $x = \\boxed{\\frac12}$.\n</reasoning>\n<answer>\n\\boxed{\\frac12}\n</answer>"
    assert demonstrate(load("math500", MATH500), example) == text
    example = {"question": "?", "answer": "12+01-04", "numbers": [1, 12, 4], "target": 9}
    text = "\n12+1-4 = 9\n</reasoning>\n<answer>\n\\boxed{12+1-4}\n</answer>"
    assert demonstrate(load("countdown", COUNTDOWN), example) == text
    example = {"question": "1230042100430302", "answer": "1234342121434312"}
    rows = "\n1230 -> 1234\n0421 -> 3421\n0043 -> 2143\n0302 -> 4312\n"
    assert demonstrate(load("sudoku", SUDOKU), example) == rows + "</reasoning>\n<answer>\n1234342121434312\n</answer>"


@pytest.mark.parametrize(("name", "settings"), [("gsm8k", GSM8K), ("math500", MATH500)])
def test_a_row_without_a_solution_is_named(name, settings):
    task = load(name, settings)
    with pytest.raises(InputError, match=rf"tasks\.{name}\.train_source: no solution to 'How many\?'"):
        demonstrate(task, {"question": "How many?", "answer": "1"})
    with pytest.raises(InputError, match=r"methods\.sft\.right_share"):
        demonstrate(task, {"question": "How many?", "answer": "1", "solution": "1"}, right=False)


def test_the_solution_is_kept_where_there_is_one(tmp_path):
    rows = [{"problem": f"p{i}", "solution": f"\\boxed{{{i}}}"} for i in range(3)] + [{"problem": "p", "answer": "1"}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = {"source": "local", "path": str(file)}
    splits = load("math500", MATH500 | {"train_source": source, "test_source": source}).splits
    with pytest.raises(ValueError, match=r"cannot hold out 1 .* of 0.*rows\.jsonl: 4 rows dropped, problems of the"):
        splits()  # all training problems are test problems here
    other = tmp_path / "test.jsonl"
    other.write_text('{"problem": "q", "answer": "1"}\n', encoding="utf-8")
    test = {"source": "local", "path": str(other)}
    found = load("math500", MATH500 | {"train_source": source, "test_source": test}).splits()
    kept = {e["question"]: e["solution"] for e in found["train"] + found["validation"]}
    assert kept == {"p0": "\\boxed{0}", "p1": "\\boxed{1}", "p2": "\\boxed{2}", "p": ""}


SETTINGS = RolloutSettings(1, DecodingSettings(24, 8, RandomOrder(), 0.0), micro_batch_size=4, dropout=False)


class Stored:
    """Solutions of given lengths."""

    def demonstration(self, example, length, right, rng):
        return "7" * example["tokens"]


def test_solutions_that_do_not_fit_are_left_out_and_counted(policy, capsys):
    examples = [{"tokens": n} for n in (24, 25, 3, 90)]
    assert Sft(right_share=1.0).usable(policy, Stored(), examples, SETTINGS) == [{"tokens": 24}, {"tokens": 3}]
    said = capsys.readouterr().out
    assert "2 of 4 demonstrations have more tokens than generation_length, 24; the longest is row 4 with 90" in said
    assert Sft(right_share=1.0).usable(policy, Stored(), examples[:1], SETTINGS) == examples[:1]
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match=r"1 of 1 demonstrations .* Increase methods.sft.generation_length"):
        Sft(right_share=1.0).usable(policy, Stored(), examples[1:2], SETTINGS)
