"""The two protocols on hand-made answers, and on real generations whose published scores are known."""

import json
import subprocess
import sys
from fractions import Fraction

import pytest

from helpers.paths import ROOT, SHARED
from unmask.scoring import published, strict
from unmask.scoring.arithmetic import evaluate
from unmask.scoring.extraction import final_answer, last_box, simple_boxes
from unmask.scoring.math_normalizer import same
from unmask.scoring.score_files import score, summary

GENERATIONS = SHARED / "data" / "llada_8b_instruct_generations"
SCRIPT = ROOT / "src" / "score_generations.py"
needs_generations = pytest.mark.skipif(not GENERATIONS.exists(), reason="no ../shared/data")

# (response, gold, right under published, right under strict)
GSM8K = [
    (r"\boxed{18}", 18, 1, 1),
    (r"<answer>\boxed{18}</answer>", 18, 1, 1),
    (r"\boxed{18.0}", 18, 1, 1),
    (r"\boxed{-3}", -3, 1, 1),
    (r"\boxed{1,000}", 1000, 0, 1),
    (r"\boxed{1{,}000}", 1000, 0, 1),  # the first closing brace ends the box at "1{,"
    (r"\boxed{1,000}", 1, 1, 0),
    (r"\boxed{\$42}", 42, 1, 1),
    (r"\boxed{42 \text{ dollars}}", 42, 1, 1),
    (r"\boxed{70\%}", 70, 1, 1),
    (r"\boxed{} \boxed{...} \boxed{7}", 7, 1, 1),
    (r"\boxed{3 + 4 = 7}", 7, 0, 1),
    (r"\boxed{3 + 4 = 7}", 3, 1, 0),
    (r"I get \boxed{5}. No: \boxed{6}", 5, 1, 0),
    (r"I get \boxed{5}. No: \boxed{6}", 6, 0, 1),
    ("<answer>18</answer>", 18, 1, 1),
    ("<answer>The answer is 18 dollars</answer>", 18, 1, 1),
    ("<answer>9 * 2 = 18</answer>", 18, 1, 1),
    ("<answer>1,250</answer>", 1250, 0, 1),
    ("<answer>1,250</answer>", 250, 1, 0),  # the last match in the tag
    ("<answer>18", 18, 0, 1),
    ("the answer is 18", 18, 0, 0),
    ("", 0, 0, 0),
    (r"\boxed{18", 18, 0, 1),
    (r"<answer>\boxed{18" + "\n</answer>", 18, 1, 1),
    (r"<answer>\boxed{}18</answer>", 18, 1, 1),
    (r"\boxed{nan}", 0, 0, 0),
    (r"\boxed{1e1}", 10, 1, 1),
    (r"\boxed{1/2}", 0.5, 0, 1),
    (r"\boxed{\frac{1}{2}}", 0.5, 0, 1),
    (r"\boxed{.5}", 0.5, 1, 1),
    (r"\boxed{5 or 6}", 5, 1, 0),
    (r"\boxed{2\frac{1}{2}}", 0.5, 0, 0),
    ("<answer>−7</answer>", -7, 0, 1),
    (r"\boxed{18}", None, 0, 0),
]

MATH500 = [
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", 1, 1),
    (r"\boxed{\dfrac{1}{2}}", r"\frac{1}{2}", 1, 1),
    (r"\boxed{\frac12}", r"\frac{1}{2}", 1, 1),
    (r"\boxed{1/2}", r"\frac{1}{2}", 1, 1),
    (r"\boxed{0.5}", r"\frac{1}{2}", 1, 1),
    (r"\boxed{0.25}", r"\frac{1}{4}", 0, 1),
    (r"\boxed{\frac{2}{4}}", r"\frac{1}{2}", 0, 1),
    (r"\boxed{\sqrt2}", r"\sqrt{2}", 1, 1),
    (r"\boxed{x=5}", "5", 1, 1),
    (r"\boxed{90^\circ}", "90", 1, 1),
    (r"\boxed{50\%}", "50", 1, 1),
    (r"\boxed{\left( 3, \frac{\pi}{2} \right)}", r"\left(3,\frac{\pi}{2}\right)", 1, 1),
    (r"\boxed{5 \text{ cm}}", "5", 1, 1),
    (r"\boxed{58500}", "58,500", 0, 1),
    (r"\boxed{p - q}", "-q+p", 0, 1),
    (r"\boxed{2}", "3", 0, 0),
    (r"\boxed 7 $", "7", 1, 1),
    (r"\boxed{1} and \boxed{2}", "2", 1, 1),
    (r"\boxed{1} and \boxed{2}", "1", 0, 0),
    (r"\fbox{2}", "2", 0, 0),  # the wrapper is not a box's, so it stays
    (r"<answer>\boxed{2</answer>", "2", 0, 1),
    (r"<answer>2</answer>", "2", 0, 1),  # without a box published compares the whole text
    ("2", "2", 1, 0),
    (r"\boxed{x/2}", r"x/2", 1, 1),
    (r"\boxed{x / 2}", r"x/2", 0, 1),  # the slash makes the normaliser give up: raw strings
    (r"\boxed{\frac}", r"\frac", 1, 1),
    ("", "1", 0, 0),
]

COUNTDOWN = [
    (r"\boxed{3+4*5}", [3, 4, 5], 23, 1, 1),
    (r"\boxed{5*4+3}", [3, 4, 5], 23, 1, 1),
    (r"\boxed{(3+4)*5}", [3, 4, 5], 35, 1, 1),
    (r"\boxed{3+4*5=23}", [3, 4, 5], 23, 1, 1),
    (r"\boxed{3 + 4 \times 5}", [3, 4, 5], 23, 1, 1),
    (r"\boxed{20 \div 4 \cdot 3}", [20, 4, 3], 15, 1, 1),
    ("\\boxed{3 + 4 × 5}", [3, 4, 5], 23, 0, 1),
    (r"\boxed{3+4}", [3, 4, 5], 7, 0, 0),
    (r"\boxed{3+4+5+5}", [3, 4, 5], 17, 0, 0),
    (r"\boxed{3+4+6}", [3, 4, 5], 13, 0, 0),
    (r"\boxed{3+4+5}", [3, 4, 5], 13, 0, 0),
    (r"\boxed{10/4/5}", [10, 4, 5], 0.5, 1, 1),
    (r"\boxed{2**3+1}", [2, 3, 1], 9, 1, 0),  # a power is no operation of the game
    (r"\boxed{7//2+1}", [7, 2, 1], 4, 1, 0),
    (r"\boxed{3.5+4}", [3, 5, 4], 7.5, 1, 0),
    (r"\boxed{4/(2-2)}", [4, 2, 2], 1, 0, 0),
    (r"\boxed{23=3+4*5}", [3, 4, 5], 23, 0, 1),
    ("<answer>3+4*5</answer>", [3, 4, 5], 23, 0, 1),  # without a box published takes the whole text
    ("3+4*5", [3, 4, 5], 23, 1, 0),
    ("so 3+4*5=23, done", [3, 4, 5], 23, 1, 0),
    (r"<answer>3+4*5</answer> \boxed{", [3, 4, 5], 23, 1, 1),
    (r"\boxed{034}", [34], 34, 0, 0),
    (r"\boxed{(3)(4)(5)}", [3, 4, 5], 60, 0, 0),
    ("", [3, 4, 5], 12, 0, 0),
]

PUZZLE, SOLUTION = "0204032001400402", "1234432121433412"  # 8 blanks
SUDOKU = [
    (f"<answer>{SOLUTION}</answer>", 8, 1),
    ("<answer>\n1234\n4321\n2143\n3412\n</answer>", 8, 1),
    (f"<answer>```{SOLUTION}```</answer>", 8, 1),
    (f"<answer>{SOLUTION}<|eot_id|>", 8, 1),
    (f"<answer>{SOLUTION}", 8, 1),  # a stand-alone run of digits
    (f"the board is {SOLUTION}.", 8, 0),
    (f"<answer></answer>{SOLUTION}<|endoftext|>", 8, 0),
    (f"{SOLUTION}</answer>", 8, 0),
    ("<answer>1234</answer>", 2, 0),
    (f"<answer>{SOLUTION}99</answer>", 8, 0),  # cut to 16
    ("<answer>1134432121433412</answer>", 8, 0),  # a given is overwritten: only strict minds
    (f"<answer>{PUZZLE}</answer>", 0, 0),
    ("<answer>1111111111111111</answer>", 3, 0),
    ("<answer>1234432121433411</answer>", 8, 0),
    (f"<answer>The solution is {SOLUTION}</answer>", 0, 1),
    (f"<answer>{SOLUTION[:4]} | {SOLUTION[4:]}</answer>", 3, 1),  # the bar takes a place
    (f"<answer>wrong</answer> <answer>{SOLUTION}</answer>", 0, 1),
    (f"<answer>\\boxed{{{SOLUTION}}}</answer>", 4, 1),
    ("", 0, 0),
    ("<answer> </answer> ", 0, 0),
    ("x" * 100, 0, 0),
]


@pytest.mark.parametrize(("response", "gold", "by_papers", "by_reader"), GSM8K)
def test_gsm8k(response, gold, by_papers, by_reader):
    assert published.gsm8k(response, gold).correct == by_papers
    assert strict.gsm8k(response, gold).correct == by_reader


@pytest.mark.parametrize(("response", "gold", "by_papers", "by_reader"), MATH500)
def test_math500(response, gold, by_papers, by_reader):
    assert published.math500(response, gold).correct == by_papers
    assert strict.math500(response, gold).correct == by_reader


@pytest.mark.parametrize(("response", "numbers", "target", "by_papers", "by_reader"), COUNTDOWN)
def test_countdown(response, numbers, target, by_papers, by_reader):
    assert published.countdown(response, numbers, target).correct == by_papers
    assert strict.countdown(response, numbers, target).correct == by_reader


@pytest.mark.parametrize(("response", "cells", "by_reader"), SUDOKU)
def test_sudoku(response, cells, by_reader):
    verdict = published.sudoku(response, PUZZLE, SOLUTION)
    assert (verdict.correct, verdict.total) == (cells, 8)
    assert strict.sudoku(response, PUZZLE, SOLUTION).correct == by_reader


def test_strict_sudoku_accepts_another_solution_that_keeps_the_givens():
    puzzle = "0" * 16
    assert strict.sudoku("<answer>1234341221434321</answer>", puzzle, SOLUTION).correct == 1


def test_boxes():
    assert last_box(r"a \boxed{x^{2}} b") == "x^{2}"
    assert last_box(r"\boxed{\boxed{3}}") == "3"
    assert last_box(r"\boxed{3") is None
    assert last_box("no box") == "no box"
    assert last_box(r"\boxed 3$ rest") == "3"
    assert simple_boxes("\\boxed{a{b}c} \\boxed{d}\n\\boxed{e\n}") == ["a{b", "d"]
    assert final_answer(r"\boxed{1}<answer>2</answer><|eot_id|><answer>3</answer>") == "2"


def test_arithmetic_is_exact_and_narrow():
    assert evaluate("1/3+1/3+1/3") == 1
    assert evaluate("-(2-5)*4") == 12
    assert evaluate("2**-1", python=True) == Fraction(1, 2)
    refused = ["2**3", "7//2", "1.5", "2%2", "f(1)", "1,2", "(1)(2)", "0x10", "1_0", "１+１", "", "()", "...", "1\x002"]
    assert [text for text in refused if evaluate(text) is not None] == []


def test_the_normaliser_compares_raw_strings_when_it_must():
    assert same(r"\frac", r"\frac")
    assert not same("a / b", "a/b")
    assert same("3 / 4", r"\frac{3}{4}")
    assert same(r"7 \text{ m}", "7")
    assert not same(r"7\text{ m}\text{ s}", "7")


@needs_generations
@pytest.mark.parametrize(
    ("task", "correct", "total", "accuracy"),
    [
        ("gsm8k", 783, 1130, 69.29),
        ("math500", 130, 500, 26.0),
        ("countdown", 53, 256, 20.7),
        ("sudoku", 240, 2048, 11.72),
    ],
)
def test_published_row_of_the_base_model(task, correct, total, accuracy):
    command = [sys.executable, SCRIPT, "--task", task, "--protocol", "published", GENERATIONS / f"{task}_128.jsonl"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert printed == {
        "task": task, "protocol": "published", "correct": correct, "total": total, "accuracy": accuracy
    }  # fmt: skip


@needs_generations
@pytest.mark.parametrize(("task", "correct"), [("gsm8k", 791), ("math500", 147), ("countdown", 54), ("sudoku", 1)])
def test_strict_scores_of_the_base_model(task, correct):
    scored = score(task, "strict", [GENERATIONS / f"{task}_128.jsonl"])
    assert summary(task, "strict", scored)["correct"] == correct
