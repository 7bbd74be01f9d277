"""Under the corrected rewards the part for a right answer is paid in full for what `strict` calls right, and only then.

Answers are put together from right and nearly right ones and from the pieces that models write around them.
"""

import json

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from helpers.paths import SHARED
from unmask.config.loading import load_config
from unmask.scoring.gold_answers import understand
from unmask.tasks import load

TASKS = load_config()["tasks"]
PUZZLE, SOLUTION = "0204032001400402", "1234432121433412"
# The part of a task's reward that is for the right answer, and what all of it is.
FULL = {"gsm8k": ("correct", 2.0), "math500": ("correct", 2.0), "countdown": ("value", 1.0), "sudoku": ("cells", 1.0),
        "chain": ("correct", 1.0), "simplify": ("correct", 1.0)}  # fmt: skip
EXAMPLES = {
    "gsm8k": {"question": "q", "answer": "1,250"},
    "math500": {"question": "q", "answer": r"\frac{5}{2}"},
    "countdown": {"question": "q", "answer": "3+4*5", "numbers": [5, 3, 4], "target": 23},
    "sudoku": {"question": PUZZLE, "answer": SOLUTION},
    "chain": {"question": "3+4-5", "answer": "2"},
    "simplify": {"question": "4a+3b+2a-1b", "answer": "6a+2b"},
}
ANSWERS = {
    "gsm8k": ["1250", "1,250", r"1\,250", r"\$1250", "1250.0", "1 250", "-1250", "250", "1", "2500/2", "１２５０"],
    "math500": [r"\frac{5}{2}", "5/2", "2.5", "2 1/2", r"2\frac12", "2", r"2\frac{1}", "x=2.5", r"\frac{5}{2", "2,5"],
    "countdown": ["3+4*5", r"3 + 4 \times 5", "3+4×5=23", "(3+4)*5", "3+4x5", "3+20", r"\frac{3}{4}*5", "03+04*05"],
    "sudoku": [SOLUTION, ",".join(SOLUTION), SOLUTION[:15], f"{SOLUTION}4", f"1134{SOLUTION[4:]}", PUZZLE, "1", "[1,"],
    "chain": ["2", "02", " 2 ", "2.0", "7", "-2", "=2", "2 2", "３"],
    "simplify": ["6a+2b", "2b+6a", "6a", "6a+1b+1b", "6a-2b", "6a+2b)", "06a+2b", "6a + 2b"],
}  # fmt: skip
AROUND = ["<reasoning>", "</reasoning>", "<answer>", "</answer>", "<|eot_id|>", "<|endoftext|>", "\\boxed{", "}", "\n",
          " ", "$", "**", ".", ",", "or ", "= ", "- ", "the answer is ", "```", ">", "\\text{", "4", "0"]  # fmt: skip
OPENED, CLOSED = ["<answer>", "<answer>\\boxed{", "\\boxed{"], ["</answer>", "}</answer>", "}", ""]


def task(name, **changes):
    """The task with the settings of config.yaml, which are the corrected ones."""
    return load(name, TASKS[name] | changes)


def is_paid_in_full(name, response, example, **changes):
    """Whether the right answer is paid in full, and what strict says of the same response."""
    judge = task(name, **changes)
    part, full = FULL[name]
    return judge.reward(response, example)[part] == full, judge.grade(response, example).strict == 1.0


def responses(name):
    """Mostly an answer in its place with a few pieces too many, sometimes any mixture of pieces."""
    pieces = st.sampled_from([*ANSWERS[name], *AROUND])
    some = st.lists(pieces, max_size=2).map("".join)
    opened, closed = (st.sampled_from(ends) for ends in (OPENED, CLOSED))
    placed = st.tuples(some, opened, some, st.sampled_from(ANSWERS[name]), some, closed, some).map("".join)
    return placed | placed | st.lists(pieces, max_size=8).map("".join)


@pytest.mark.parametrize("name", ["gsm8k", "countdown", "sudoku", "chain", "simplify"])
@settings(max_examples=500, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_full_reward_is_for_right_answers(name, data):
    paid, right = is_paid_in_full(name, data.draw(responses(name)), EXAMPLES[name])
    assert paid == right


@settings(max_examples=100, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
@given(response=responses("math500"))
def test_the_full_reward_of_math500_is_for_right_answers(response):
    """Fewer answers, since each may ask the symbolic comparison."""
    paid, right = is_paid_in_full("math500", response, EXAMPLES["math500"])
    assert paid == right


@pytest.mark.parametrize("name", ["countdown", "sudoku"])
def test_the_full_reward_of_tiny_models_is_for_right_answers(name):
    """Of the terse prompts."""

    @settings(max_examples=500, derandomize=True, deadline=None, database=None)
    @given(response=responses(name))
    def check(response):
        paid, right = is_paid_in_full(name, response, EXAMPLES[name], prompt="terse")
        assert paid == right

    check()


@pytest.mark.parametrize("name", FULL)
def test_both_verdicts_occur(name):
    """Else the properties would say nothing."""
    right = {is_paid_in_full(name, f"<answer>{answer}</answer>", EXAMPLES[name])[1] for answer in ANSWERS[name]}
    assert right == {True, False}


def examples_of(name, folder):
    """Responses and examples of the files of generations in a folder."""
    for file in sorted(folder.glob(f"{name}*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            response, gold = understand(name, record)
            if gold[0] is None:
                continue
            if name == "countdown":
                yield response, {"question": "q", "answer": "", "numbers": gold[0], "target": gold[1]}
            elif name == "sudoku":
                yield response, {"question": gold[0], "answer": gold[1]}
            else:
                yield response, {"question": "q", "answer": str(gold[0])}


@pytest.mark.parametrize("folder", ["cases/graders", "data/llada_8b_instruct_generations"])
@pytest.mark.parametrize("name", ["gsm8k", "math500", "countdown", "sudoku"])
def test_the_full_reward_of_real_answers_is_for_right_ones(name, folder):
    if not (SHARED / folder).exists():
        pytest.skip("no ../shared")
    found = [is_paid_in_full(name, response, example) for response, example in examples_of(name, SHARED / folder)]
    assert all(paid == right for paid, right in found)
    assert any(right for _, right in found)
