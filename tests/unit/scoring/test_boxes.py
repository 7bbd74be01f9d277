"""Boxes around answers under the strict protocol: braces that are missing or mistyped, and signs in front."""

import pytest

from unmask.scoring import strict


@pytest.mark.parametrize(("response", "answer"), [
    ("\\boxed{36>", "36"), ("\\boxed{48 + 29)", "48 + 29"), ("\\boxed{(1 + 2)", "(1 + 2)"),
    ("\\boxed{145</answer}", "145"), ("\\boxed{x > 2}", "x > 2"), ("\\boxed{[1, 2)}", "[1, 2)"),
])  # fmt: skip
def test_a_mistyped_brace_is_no_part_of_the_answer(response, answer):
    assert strict.final_answer(response) == answer


@pytest.mark.parametrize(("gold", "response", "right"), [
    # Only the box lacks its brace: everything in it is complete.
    (r"\frac{2}{3}", r"\boxed{\frac{2}{3}", 1), (r"\frac{2}{3}", r"\boxed{\frac23", 1),
    ("90^\\circ", r"\boxed{90^{\circ}", 1),
    ("2516_8", r"\boxed{2516_{8}", 1), ("12", r"\boxed{12 \text{ cm}", 1), (r"\{2,4\}", r"\boxed{\{2,4\}", 1),
    (r"\frac{2}{3}", r"\boxed{\boxed{\frac{2}{3}}", 1),
    # A command in the box lacks one too.
    (r"\frac{2}{3}", r"\boxed{\frac{2}{3", 0), ("90^\\circ", r"\boxed{90^{\circ", 0), ("2516_8", r"\boxed{2516_{8", 0),
    ("2516_8", r"\boxed{2516_{\text{eight}", 0), ("12", r"\boxed{12_{10", 0), ("12", r"\boxed{12 \text{ cm", 0),
    (r"5:30 \text{ p.m.}", r"\boxed{5:30 \text{ p.m.", 0), (r"28\%", r"\boxed{28 \text{ percent", 0),
    ("10000", r"\boxed{1 \times 10^{4", 0), ("2516_8", "2516_{8", 0), (r"\{2,4\}", r"\boxed{\{2,4", 0),
])  # fmt: skip
def test_only_the_brace_of_the_box_may_be_missing(gold, response, right):
    assert strict.math500(f"<answer>{response}</answer>", gold).correct == right
    assert strict.math500(f"<answer>\n{response}\n", gold).correct == right


@pytest.mark.parametrize(("gold", "response", "right"), [
    (18, r"\boxed{18", 1), (18, r"\boxed{18 \text{ cm}", 1), (0.75, r"\boxed{\frac{3}{4}", 1),
    (18, r"\boxed{18^{", 0), (18, r"\boxed{\frac{18}{", 0), (10000, r"\boxed{1 \times 10^{4", 0),
    (18, r"\boxed{18 \text{ cm", 0),
])  # fmt: skip
def test_a_number_may_lack_the_brace_of_its_box_alone(gold, response, right):
    assert strict.gsm8k(f"<answer>{response}</answer>", float(gold)).correct == right


@pytest.mark.parametrize("response", [
    r"-\boxed{5}", r"$-\boxed{5}$", r"$x = -\boxed{5}$", r"The answer is -\boxed{5}", r"Answer: −\boxed{5}",
    r"–\boxed{5}",
    r"\(-\boxed{5}\)", "the loss is 20\n-\\boxed{5}", r"-\boxed 5", r"-\boxed{5 \text{ cm}}", r"**-\boxed{5}**",
    r"<answer>-\boxed{5}</answer>", r"-\boxed{5",
])  # fmt: skip
def test_a_sign_that_touches_the_box_is_the_answers(response):
    assert strict.gsm8k(response, -5.0).correct == strict.math500(response, "-5").correct == 1
    assert strict.gsm8k(response, 5.0).correct == strict.math500(response, "5").correct == 0


@pytest.mark.parametrize("response", [
    r"- \boxed{5}", r"20-\boxed{5}", r"20 -\boxed{5}", r"(3) -\boxed{5}", r"x-\boxed{5}", r"x -\boxed{5}",
    r"--\boxed{5}",
    r"Answer-\boxed{5}", r"answer —\boxed{5}", "- **\\boxed{5}**", r"25 - 20 = \boxed{5}", r"-$\boxed{5}$",
])  # fmt: skip
def test_another_minus_in_front_of_a_box_is_not(response):
    assert strict.gsm8k(response, 5.0).correct == strict.math500(response, "5").correct == 1
    assert strict.gsm8k(response, -5.0).correct == strict.math500(response, "-5").correct == 0


def test_a_sign_negates_the_whole_box():
    assert strict.math500(r"-\boxed{1+\sqrt2}", r"-1-\sqrt{2}").correct == 1
    assert strict.math500(r"-\boxed{1+\sqrt2}", r"1-\sqrt{2}").correct == 0
    assert strict.math500(r"the answer is -\boxed{\text{(E)}}", r"\text{(E)}").correct == 1
    assert strict.countdown(r"-\boxed{3+4*5}", [3, 4, 5], 23).correct == 1


@pytest.mark.parametrize("before", ["Ans:-", "answer –", "- ", "* -- "])
def test_a_dash_in_front_of_a_box_is_no_sign(before):
    assert strict.gsm8k(rf"{before}\boxed{{18}}", 18.0).correct
