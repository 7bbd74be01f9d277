"""Rewards part by part on hand-made answers, prompts, grades, and the tasks that stand for others at laptop scale."""

import json
import random

import pytest

from helpers.paths import DATA, SHARED
from unmask.common.errors import InputError
from unmask.tasks import load
from unmask.tasks._prompts import format_prompt

CASES = SHARED / "cases"
NOWHERE = {"source": "local", "path": "nowhere"}
STORED = {"train_source": NOWHERE, "test_source": NOWHERE, "validation": 1, "seed": 0, "prompt_file": ""}
SUDOKU = {"prompt": "chat", "prompt_file": "", "test_source": {"source": "generated"}, "split": "disjoint",
          "min_blanks": 4, "max_blanks": 11, "train": 64, "validation": 16, "test": 16, "seed": 0,
          "rewards": "corrected"}  # fmt: skip
GENERATED = {"source": "generated"}
COUNTDOWN = {"prompt": "chat", "prompt_file": "", "train_source": GENERATED, "test_source": GENERATED, "largest": 12,
             "largest_target": 20, "train": 64, "validation": 16, "test": 16, "seed": 0,
             "rewards": "corrected"}  # fmt: skip
CHAIN = {"min_steps": 2, "max_steps": 6, "train": 64, "validation": 16, "test": 16, "seed": 0}
SIMPLIFY = {"largest": 9, "min_terms": 3, "max_terms": 6, "train": 64, "validation": 16, "test": 16, "seed": 0}
WRITING = {"prompt": "chat", "prompt_file": "", "min_words": 15, "max_words": 40, "train": 64, "validation": 16,
           "test": 16, "seed": 0}  # fmt: skip

BEGIN, JOIN, END = "\nwork\n</reasoning>\n<answer>\n", "\n</reasoning>\n<answer>\n", "\n</answer>"
GSM8K_REWARDS = [  # what follows <reasoning>; its tags, loose format, exact format, whole number, right
    (BEGIN + "18" + END, 0.5, 0.5, 0.5, 0.5, 2.0),
    (BEGIN + "18" + END + "\n", 0.5, 0.5, 0.5, 0.5, 2.0),
    (BEGIN + "18" + END + "<|eot_id|><|endoftext|>", 0.5, 0.5, 0.5, 0.5, 2.0),
    (BEGIN + "19" + END, 0.5, 0.5, 0.5, 0.5, 0.0),
    (BEGIN + "$18" + END, 0.5, 0.5, 0.5, 0.0, 2.0),
    (BEGIN + "18.0" + END, 0.5, 0.5, 0.5, 0.0, 2.0),
    (BEGIN + "18 dollars" + END, 0.5, 0.5, 0.5, 0.0, 2.0),
    (BEGIN + "\\boxed{18}" + END, 0.5, 0.5, 0.5, 0.0, 2.0),
    (BEGIN + "-18" + END, 0.5, 0.5, 0.5, 0.0, 0.0),
    (BEGIN + "eighteen" + END, 0.5, 0.5, 0.5, 0.0, 0.0),
    (BEGIN + "१८" + END, 0.5, 0.5, 0.5, 0.0, 0.0),
    (BEGIN + "18" + END + "\nbye!", 0.496, 0.5, 0.0, 0.5, 2.0),
    (BEGIN + "18", 0.375, 0.0, 0.0, 0.5, 2.0),
    (BEGIN + "18<|eot_id|>" + END, 0.375, 0.0, 0.0, 0.5, 2.0),
    ("\nwork</reasoning><answer>18</answer>", 0.125, 0.5, 0.0, 0.5, 2.0),
    ("work</reasoning> <answer>18</answer>", 0.0, 0.5, 0.0, 0.5, 2.0),
    ("\nwork\n</reasoning>\n\n<answer>\n18" + END, 0.5, 0.5, 0.0, 0.5, 2.0),
    (BEGIN + "17" + END + "\n<answer>\n18" + END, 0.25, 0.5, 0.5, 0.5, 2.0),
    ("\nwork\n<answer>\n18" + END, 0.375, 0.0, 0.0, 0.5, 2.0),
    ("\n<answer>\n18" + END + "\n</reasoning>", 0.363, 0.0, 0.0, 0.5, 2.0),
    (JOIN + END, 0.5, 0.5, 0.0, 0.0, 0.0),
    ("18", 0.0, 0.0, 0.0, 0.0, 0.0),
    ("", 0.0, 0.0, 0.0, 0.0, 0.0),
]
HALF = r"\frac{1}{2}"
MATH500_REWARDS = [  # response; format, right
    (r"</reasoning><answer>\boxed{\frac{1}{2}}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{\frac12}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{\dfrac{1}{2}}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{1/2}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{0.5}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{.5}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{x=\frac12}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{0.50}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{\frac{2}{4}}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{2^{-1}}</answer>", 1.0, 2.0),
    (r"</reasoning><answer>\boxed{2}</answer>", 1.0, 0.0),
    (r"</reasoning><answer>\boxed{}</answer>", 1.0, 0.0),
    (r"</reasoning><answer>\boxed{1/2</answer>", 1.0, 2.0),
    (r"</reasoning><answer>1/2</answer>", 0.75, 2.0),
    (r"</reasoning><answer>half</answer>", 0.75, 0.0),
    (r"\boxed{1/2}</reasoning><answer>1/2</answer>", 0.75, 2.0),
    (r"\boxed{1/2}", 0.5, 2.0),
    (r"\boxed{3} no, \boxed{1/2}", 0.5, 2.0),
    (r"\boxed{1/2} no, \boxed{3}", 0.5, 0.0),
    (r"so 1/2", 0.25, 0.0),
    ("", 0.25, 0.0),
]
PUZZLE, SOLUTION = "0204032001400402", "1234432121433412"  # 8 blanks
SUDOKU_REWARDS = [  # 8 blanks and 8 givens; the reward is the same for tiny models (`terse`)
    (f"<answer>{SOLUTION}</answer>", 1), (f"<answer>\n{SOLUTION}\n</answer><|eot_id|>", 1),
    ("<answer>1234 4321 2143 3412</answer>", 1), ("<answer>1,2,3,4,4,3,2,1,2,1,4,3,3,4,1,2</answer>", 1),
    (f"<answer>the board: {SOLUTION}</answer>", 1), (f"<answer>{SOLUTION}444</answer>", 8 / 11),
    (f"<answer>9</answer><answer>{SOLUTION}</answer>", 1), (f"<answer>{SOLUTION}</answer><answer>9</answer>", 0),
    (f"<answer>{PUZZLE}</answer>", 0), ("<answer>1111111111111111</answer>", 3 / 15),
    ("<answer>2222222222222222</answer>", 1 / 13), ("<answer>3333333333333333</answer>", 3 / 15),
    ("<answer>1</answer>", 1 / 16), ("<answer>123</answer>", 2 / 15),
    ("<answer>12344321</answer>", 4 / 12), ("<answer>1134432121433412</answer>", 8 / 9),
    (f"<answer>{SOLUTION}", 1), (f"{SOLUTION}</answer>", 0), (SOLUTION, 0), ("", 0),
    (f"<|endoftext|><answer>{SOLUTION}</answer>", 0), (f"<answer>{SOLUTION[:15]}</answer>", 8 / 9),
]  # fmt: skip


COUNTDOWN_REWARDS = [  # 3, 4, 5 -> 23
    (r"</reasoning><answer>\boxed{3+4*5}</answer>", 1.0), (r"<answer>\boxed{4*5+3}</answer>", 1.0),
    (r"<answer>\boxed{(4*5)+3}</answer>", 1.0), (r"<answer>\boxed{3 + 4 \times 5}</answer>", 1.0),
    (r"<answer>\boxed{3+4*5=23}</answer>", 1.0), (r"<answer>3+4*5</answer>", 1.0),
    (r"<answer>\boxed{3+4*5</answer>", 1.0), (r"\boxed{3+4*5}", 1.0),
    (r"<answer>\boxed{3+4+5}</answer>", 0.1), (r"<answer>\boxed{3*4*5}</answer>", 0.1),
    (r"<answer>\boxed{5-4/3}</answer>", 0.1), (r"<answer>\boxed{3-4-5=23}</answer>", 0.1),
    (r"<answer>\boxed{3+20}</answer>", 0.0), (r"<answer>\boxed{23}</answer>", 0.0),
    (r"<answer>\boxed{3+4*5+0}</answer>", 0.0), (r"<answer>\boxed{3+4*5+3-3}</answer>", 0.0),
    (r"<answer>\boxed{3**4+5}</answer>", 0.0), (r"<answer>\boxed{3, 4, 5}</answer>", 0.0),
    (r"<answer></answer>", 0.0), (r"<answer>\boxed{5/(3-3)}</answer>", 0.0), ("3+4*5", 0.0),
    ("", 0.0), (r"<|endoftext|><answer>\boxed{3+4*5}</answer>", 0.0),
]  # fmt: skip


def gsm8k(**settings):
    return load("gsm8k", STORED | {"rewards": "corrected"} | settings)


def math500(**settings):
    return load("math500", STORED | {"rewards": "corrected"} | settings)


@pytest.mark.parametrize(("response", "tags", "loose", "exact", "whole", "right"), GSM8K_REWARDS)
def test_gsm8k_rewards(response, tags, loose, exact, whole, right):
    parts = gsm8k().reward(response, {"question": "q", "answer": "18"})
    assert parts == pytest.approx(
        {"tags": tags, "loose_format": loose, "exact_format": exact, "whole_number": whole, "correct": right}
    )


def test_gsm8k_golds_may_have_separators():
    example = {"question": "q", "answer": "1,000"}
    assert gsm8k().reward(BEGIN + "1000" + END, example)["correct"] == 2.0
    assert gsm8k(rewards="released_d1").reward(BEGIN + "1000" + END, example)["correct"] == 0.0
    grade = gsm8k().grade("<answer>\\boxed{1,000}</answer>", example)
    assert (grade.answer, grade.published, grade.strict) == ("1.0", 0.0, 1.0)


@pytest.mark.parametrize(("response", "form", "right"), MATH500_REWARDS)
def test_math500_rewards(response, form, right):
    example = {"question": "q", "answer": HALF}
    assert math500().reward(response, example) == {"format": form, "correct": right}


@pytest.mark.parametrize("prompt", ["chat", "terse"])
@pytest.mark.parametrize(("response", "cells"), SUDOKU_REWARDS)
def test_sudoku_rewards(response, cells, prompt):
    example = {"question": PUZZLE, "answer": SOLUTION, "difficulty": 8}
    assert load("sudoku", SUDOKU | {"prompt": prompt}).reward(response, example) == {"cells": cells}


@pytest.mark.parametrize(("response", "reward"), COUNTDOWN_REWARDS)
def test_countdown_rewards(response, reward):
    example = {"question": "", "answer": "", "difficulty": 1, "numbers": [5, 3, 4], "target": 23}
    assert load("countdown", COUNTDOWN).reward(response, example) == {"value": reward}
    exact = load("countdown", COUNTDOWN | {"rewards": "exact"})
    assert exact.reward(response, example) == {"value": float(reward == 1.0)}


@pytest.mark.parametrize("length", [24, 32, 48])
def test_terse_countdown_is_judged_by_both_protocols(length):
    task, rng = load("countdown", COUNTDOWN | {"prompt": "terse"}), random.Random(0)
    for example in task.splits()["train"]:
        for right in (True, False):
            text = task.demonstration(example, length, right, rng) + "<|endoftext|>"
            grade = task.grade(text, example)
            assert (grade.published, grade.strict) == (right, right)
            assert task.reward(text, example) == {"value": 1.0 if right else 0.1}


def test_prompts_are_what_they_were():
    """A change of wording changes every result; tests/data/golden_prompts.json says what the models were asked."""
    tasks = {"gsm8k": gsm8k(), "math500": math500(), "sudoku": load("sudoku", SUDOKU),
             "countdown": load("countdown", COUNTDOWN), "chain": load("chain", CHAIN),
             "simplify": load("simplify", SIMPLIFY), "writing": load("writing", WRITING)}  # fmt: skip
    golden = json.loads((DATA / "golden_prompts.json").read_text(encoding="utf-8"))
    for name, task in tasks.items():
        question = "3+4-5" if name == "chain" else "QUESTION"
        assert task.messages({"question": question}) == [{"role": "user", "content": golden[name]}]
        assert task.prefill == "<reasoning>"


def test_a_prompt_file_replaces_the_wording(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("Put it in \\boxed{}.\n{question}", encoding="utf-8")
    messages = gsm8k(prompt_file=str(file)).messages({"question": "1+1?", "answer": "2"})
    assert messages == [{"role": "user", "content": "Put it in \\boxed{}.\n1+1?"}]
    file.write_text("\ufeffUse \\frac{a}{b} and \\boxed{number}.\n{question}", encoding="utf-8")
    messages = gsm8k(prompt_file=str(file)).messages({"question": "{answer}?", "answer": "2", "solution": "1+1=2"})
    assert messages == [{"role": "user", "content": "Use \\frac{a}{b} and \\boxed{number}.\n{answer}?"}]
    file.write_text("no field", encoding="utf-8")
    with pytest.raises(ValueError, match="no field for the problem"):
        format_prompt("", {"question": "q"}, str(file))
    with pytest.raises(ValueError, match="cannot be read"):
        format_prompt("", {"question": "q"}, str(tmp_path / "nowhere.txt"))


@pytest.mark.parametrize("column", ["answer", "solution", "difficulty"])
@pytest.mark.parametrize("task", [gsm8k, math500])
def test_a_prompt_file_that_names_the_answer_is_refused(tmp_path, task, column):
    file = tmp_path / "prompt.txt"
    file.write_text(f"Finish with \\boxed{{{column}}}.\n\n{{question}}", encoding="utf-8")
    example = {"question": "1+1?", "answer": "2", "solution": "1+1=2", "difficulty": 0}
    with pytest.raises(
        InputError, match=rf"prompt\.txt: \{{{column}\}} is a column that a prompt may not show.* are \{{question\}}"
    ):
        task(prompt_file=str(file)).messages(example)


@pytest.mark.skipif(not CASES.exists(), reason="no ../shared/cases")
def test_the_known_prompt_with_the_answer_is_refused():
    with pytest.raises(InputError, match=r"prompt_with_answer\.txt: \{answer\} is a column that a prompt may not show"):
        math500(prompt_file=str(CASES / "prompt_with_answer.txt")).messages({"question": "1+1?", "answer": "2"})


@pytest.mark.parametrize(
    ("text", "right"), [("{numbers} -> {target}", True), ("{question}", True), ("{target}", False)]
)
def test_a_prompt_file_shows_the_whole_problem(tmp_path, text, right):
    (tmp_path / "prompt.txt").write_text(text, encoding="utf-8")
    task = load("countdown", COUNTDOWN | {"prompt_file": str(tmp_path / "prompt.txt")})
    example = {"question": "Numbers: [1, 2, 3]\nTarget: 6", "numbers": [1, 2, 3], "target": 6, "answer": "1+2+3"}
    if right:
        assert "6" in task.messages(example)[0]["content"]
    else:
        with pytest.raises(InputError, match="shows only part of the problem"):
            task.messages(example)


@pytest.mark.parametrize(("name", "settings"), [("chain", CHAIN), ("simplify", SIMPLIFY)])
@pytest.mark.parametrize("length", [24, 32, 48])
def test_stand_ins_demonstrate_right_and_wrong_ways(name, settings, length):
    from unmask.models.tiny import build_tokenizer

    task, rng, tokenizer = load(name, settings), random.Random(0), build_tokenizer()
    splits = task.splits()
    examples = [example for split in splits.values() for example in split]
    assert [len(split) for split in splits.values()] == [64, 16, 16]
    assert len({example["question"] for example in examples}) == 96
    for example in examples:
        for right in (True, False):
            text = task.demonstration(example, length, right, rng)
            assert len(tokenizer(text + "<|endoftext|>").input_ids) <= length
            assert tokenizer.unk_token_id not in tokenizer(text + example["question"]).input_ids
            assert task.reward(text, example) == {"correct": float(right)}
            grade = task.grade(text, example)
            assert (grade.published, grade.strict) == (right, right)


CHAIN_REWARDS = [  # 3+4-5 -> 2
    ("3+4=7-5=2</reasoning><answer>2</answer>", 1), ("<answer>2</answer>", 1), ("<answer> 2 </answer>", 1),
    ("3+4=9</reasoning><answer>2</answer><|endoftext|>", 1), ("<answer>2</answer><answer>3</answer>", 1),
    ("<answer>7</answer>", 0), ("<answer>02</answer>", 0), ("<answer>2.0</answer>", 0), ("<answer>-2</answer>", 0),
    ("<answer>=2</answer>", 0), ("<answer>2 2</answer>", 0), ("<answer>3</answer><answer>2</answer>", 0),
    ("<answer>2", 0), ("2</answer>", 0), ("</answer>2<answer>", 0), ("<answer></answer>", 0), ("<answer>२</answer>", 0),
    ("<|endoftext|><answer>2</answer>", 0), ("<answer>2<|endoftext|></answer>", 0), ("2", 0), ("", 0),
]  # fmt: skip
SIMPLIFY_REWARDS = [  # 6a+2b
    ("6a+2b", 1), ("2b+6a", 1), ("+6a+2b", 1), ("6a+1b+1b", 1), ("9a-3a+2b", 1), ("6a+2b+0c", 1), ("06a+02b", 1),
    ("6a+2b+1c-1c", 1), ("6a2b", 1), ("6a-2b", 0), ("6a", 0), ("2b", 0), ("6b+2a", 0), ("a+2b", 0), ("6*a+2*b", 0),
    ("6a + 2b", 0), ("6a+2b)", 0), ("6A+2B", 0), ("8ab", 0), ("", 0), ("६a+२b", 0),
]  # fmt: skip


@pytest.mark.parametrize(("response", "reward"), CHAIN_REWARDS)
def test_chain_rewards(response, reward):
    assert load("chain", CHAIN).reward(response, {"question": "3+4-5", "answer": "2"}) == {"correct": reward}


@pytest.mark.parametrize(("answer", "reward"), SIMPLIFY_REWARDS)
def test_simplify_rewards(answer, reward):
    example = {"question": "4a+3b+2a-1b", "answer": "6a+2b"}
    assert load("simplify", SIMPLIFY).reward(f"<answer>{answer}</answer>", example) == {"correct": reward}


def test_simplify_takes_any_order_only_when_strict():
    task = load("simplify", SIMPLIFY)
    example = {"question": "4a+3b+2a-1b", "answer": "6a+2b"}
    for answer, by_papers, by_reader in [
        ("6a+2b", 1, 1), ("2b+6a", 0, 1), ("6a+1b+1b", 0, 1), ("6a+2b+0c", 0, 1), ("6a-2b", 0, 0), ("6a", 0, 0),
        ("", 0, 0), ("6a+2b)", 0, 0), ("6a2b", 0, 1), ("a", 0, 0), ("9" * 10**6 + "a", 0, 0),
    ]:  # fmt: skip
        grade = task.grade(f"</reasoning><answer>{answer}</answer>", example)
        assert (grade.published, grade.strict) == (by_papers, by_reader), answer


def test_too_many_problems_are_refused():
    with pytest.raises(ValueError, match="distinct problems found; ask for fewer"):
        load("chain", CHAIN | {"min_steps": 1, "max_steps": 1, "train": 1000}).splits()
