"""Any text at all is judged by both protocols: quickly, without a crash, and without being run."""

import re
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.scoring import published, strict
from unmask.scoring.arithmetic import evaluate
from unmask.scoring.equivalence import equivalent
from unmask.tasks import load

PUZZLE, SOLUTION = "0204032001400402", "1234432121433412"
GOLDS = {"gsm8k": (18.0,), "math500": (r"\frac{1}{2}",), "countdown": ([9, 9, 9], 9), "sudoku": (PUZZLE, SOLUTION),
         "simplify": ("6a+2b",)}  # fmt: skip
MEGABYTE = 1_000_000
HOSTILE = {
    "tower": "9**9**9**9",
    "tower in LaTeX": "9^{9^{9^{9^9}}}",
    "factorials": "((((9!)!)!)!)!",
    "open brackets": "(" * MEGABYTE,
    "open braces": "{" * MEGABYTE,
    "balanced braces": "{" * (MEGABYTE // 2) + "}" * (MEGABYTE // 2),
    "closing braces": "}" * MEGABYTE,
    "boxes": "\\boxed{" * (MEGABYTE // 7),
    "closed boxes": "\\boxed{}" * (MEGABYTE // 8),
    "boxes of dots": "\\boxed{..}" * (MEGABYTE // 10),
    "boxes on lines": "\\boxed{\n" * (MEGABYTE // 8) + "}",
    "boxes with a space": "\\boxed " * (MEGABYTE // 7),
    "signs": "-" * MEGABYTE + "1",
    "digits": "9" * MEGABYTE,
    "digits and dots": "9." * (MEGABYTE // 2),
    "numbers": "9 " * (MEGABYTE // 2),
    "sixteen digits and space": ("1" * 16 + " " * 1000) * 1000,
    "white space": " " * MEGABYTE,
    "lines": "\n" * MEGABYTE,
    "fences": "```1" * (MEGABYTE // 4),
    "back ticks": "`" * MEGABYTE,
    "answer tags": "<answer>" * (MEGABYTE // 8),
    "blocks": "</reasoning> <answer>" * (MEGABYTE // 21),
    "equals signs": "9=" * (MEGABYTE // 2),
    "fractions": "\\frac" * (MEGABYTE // 5),
    "roots": "\\sqrt" * (MEGABYTE // 5),
    "code": "__import__('os').system('touch /tmp/unmask-was-here')",
    "lambda": "(lambda: 9)()",
    "other digits": "१८ ９+９+९",
    "nan": "nan",
    "infinity": "1e999",
    "surrogates": "\ud800\udfff",
    "null": "9\x00+9",
    "integral": r"\int_0^\infty e^{-x^{x^{x}}} \sin(x^{99}) dx",
    "sum": r"\sum_{n=1}^{10^{10}} \frac{1}{n!}",
    "matrix": r"\begin{pmatrix}" + "&".join("x^9" for _ in range(40)) + r"\end{pmatrix}",
}
GENERATED = {"source": "generated"}
TERSE = {"prompt": "terse", "prompt_file": "", "train_source": GENERATED, "test_source": GENERATED, "largest": 9,
         "largest_target": 9, "train": 1, "validation": 1, "test": 1, "seed": 0, "rewards": "corrected"}  # fmt: skip
WRAPPED = ["{}", "<answer>{}</answer>", "<answer>\\boxed{{{}}}</answer>", "<answer>\\boxed{{{}", "\\boxed {}"]


@pytest.fixture(scope="module")
def second():
    """Processor time of a fixed loop that takes about a second on a current core; slower machines get more time."""
    began = time.process_time()
    total = 0
    for i in range(20_000_000):
        total += i
    return max(1.0, time.process_time() - began)


@pytest.mark.parametrize("task", GOLDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_cost_less_than_a_second(name, task, second):
    equivalent("x", "2x")  # the worker is started once, not by an answer
    for wrapper in WRAPPED:
        response = wrapper.replace("{{", "{").replace("}}", "}").replace("{}", HOSTILE[name], 1)
        for protocol in (published, strict):
            began = time.process_time(), time.monotonic()
            verdict = getattr(protocol, task)(response, *GOLDS[task])
            assert time.process_time() - began[0] < second
            assert time.monotonic() - began[1] < 6.0 * second  # the machine may be busy
            assert verdict.correct in range(verdict.total + 1)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_are_rewarded_as_quickly(name, second):
    equivalent("1", "2")
    source = {"source": "local", "path": "nowhere"}
    stored = {"train_source": source, "test_source": source, "validation": 1, "seed": 0, "prompt_file": ""}
    tasks = [
        (load(name, settings | {"rewards": rewards}), example)
        for name, settings, example in (
            ("gsm8k", stored, {"answer": "18"}),
            ("math500", stored, {"answer": "18"}),
            ("countdown", TERSE, {"numbers": [9, 9, 9], "target": 9}),
            ("countdown", TERSE | {"prompt": "chat"}, {"numbers": [9, 9, 9], "target": 9}),
        )
        for rewards in ("corrected", "released_d1", "released_dmpo")
    ]
    for wrapper in WRAPPED[1:3]:
        response = wrapper.replace("{{", "{").replace("}}", "}").replace("{}", HOSTILE[name], 1)
        for task, example in tasks:
            began = time.process_time()
            assert 0 <= max(task.reward(response, example).values()) <= 2
            task.grade(response, example)
            assert time.process_time() - began < 4.0 * second  # a reward and two verdicts


PIECES = [
    "\\boxed{",
    "\\boxed ",
    "\\frac",
    "\\text{ ",
    "\\sqrt",
    "<answer>",
    "</answer>",
    "<|eot_id|>",
    "```",
    "=",
    "１",
]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*"0123456789+-*/().,= \n{}$x", *PIECES]), max_size=60).map("".join))
def test_any_text_is_judged(response):
    for task, gold in GOLDS.items():
        assert 0 <= getattr(published, task)(response, *gold).share <= 1
        if task != "math500":  # its comparisons take 50 ms each
            assert getattr(strict, task)(response, *gold).correct in (0, 1)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789+-*/(). ", max_size=40))
def test_arithmetic_agrees_with_python(text):
    value = evaluate(text)
    if value is not None:  # then it is whole-number arithmetic, and Python may work it out, as exactly
        assert value == eval(re.sub(r"\d+", r"Fraction(\g<0>)", text.strip()), {"Fraction": Fraction})


def test_what_a_model_writes_is_never_run(tmp_path):
    """Code that Python would run, if anything gave it the chance, in every place that is read."""
    place = tmp_path / "was-here"
    code = f"open('{place}','w').close()"
    for text in (code, f"__import__('os').system('touch {place}')", f"9+9+9 if {code} else 9"):
        for wrapper in WRAPPED:
            response = wrapper.replace("{{", "{").replace("}}", "}").replace("{}", text, 1)
            for task, gold in GOLDS.items():
                getattr(published, task)(response, *gold)
                getattr(strict, task)(response, *gold)
        equivalent(text, "x")
    assert not place.exists()


def test_a_hung_comparison_costs_its_limit_and_says_so(second):
    equivalent("x", "2x")
    began = time.monotonic()
    same, note = equivalent("1", r"\sum_{n=1}^{10^{9}} \frac{1}{n^n + \sin(n)}")
    assert time.monotonic() - began < 6.0 * second
    assert not same
    assert equivalent("x/2", "0.5x") == (True, "")  # and the next one is judged as ever
    assert note in ("", "could not be compared within the limits")


def test_the_worker_is_replaced_when_it_is_killed():
    from unmask.scoring import equivalence

    equivalent("x", "3x")
    equivalence._worker().kill()
    equivalence._worker().wait()
    assert equivalent("x", "4x") == (False, "could not be compared within the limits")
    assert equivalent("x + 1", "2x - x + 1") == (True, "")
