"""The strict graders on answers of every kind that went wrong in some grader: each row's verdict is a careful reader's.

A row is (gold, answer, right). The answers stand in a box in the answer tag, unless they bring their own place.
"""

import json
from fractions import Fraction

import pytest

from helpers.paths import SHARED
from unmask.scoring import equivalence, published, strict
from unmask.scoring.exact_numbers import exact
from unmask.scoring.gold_answers import TASKS, understand
from unmask.scoring.spelling import plain
from unmask.scoring.units import without_unit

CASES = SHARED / "cases" / "graders"

MATH500 = [
    # A fragment is not the answer.
    ("2", r"2\sqrt(3)", 0), ("2", "2^{", 0), ("2", r"2\frac{3}", 0), ("6", r"6\sin(", 0), ("2", "2+", 0),
    ("16", "16√3", 0), (r"16\sqrt{3}", "16√3", 1), ("1", r"1+\frac{1}{\mathrm{e}}", 0), ("5", "x_5", 0),
    ("2", "2x", 0), ("23", "23>", 0), (r"\frac{11}{2}", r"-\infty", 0), ("3", r"\infty", 0), ("5", "５", 0),
    ("7", r"7\pi", 0),
    # Separators of thousands, and lists that look like them.
    ("58,500", r"58\,500", 1), ("558", r"58\,500", 0), ("1", r"1\,000", 0), ("2500", "2~500", 1),
    ("2500", "2 500", 1), (r"11,\! 111,\! 111,\! 100", "11 111 111 100", 1),
    (r"11,\! 111,\! 111,\! 100", "(11,111,111,100)", 0), ("3, 5, 7", "7,5,3", 1), ("3, 5, 7", "3 5 7", 0),
    ("500", "2,500", 0), ("2500", "25,00", 0),
    # Mixed numbers.
    (r"137 \frac{1}{2}", "137 1/2", 1), (r"137 \frac{1}{2}", "69", 0), ("1.25", r"1\frac14", 1), ("1", "3 1/4", 0),
    ("10", "4 10/4", 0), ("5.5", "5½", 1), ("5", "5½", 0), (r"-2\frac{1}{2}", "-2 1/2", 1),
    # Exact numbers, and decimals that stand for others.
    (".0000672", ".0000673", 0), (".0000672", "6.72e-5", 1), (".0000672", r"6.72 \times 10^{-5}", 1),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}", 0), (r"\frac{1}{2^{99}}", "2^{-99}", 1),
    (r"\frac{1}{2^{99}}", "0", 0), (r"\frac{1}{2004!}", r"\frac{1}{2006!}", 0), (r"\frac{1}{1296}", "0.000772", 0),
    (r"\frac{1}{3}", "0.333333", 1), (r"\frac{1}{3}", "0.33", 0), (r"\frac{1}{3}", r"0.\overline{3}", 1),
    (r"11\sqrt2", "15.56", 0), ("3:5", "0.6", 1), (r"11\sqrt2", "15.5563491861", 1), ("58500", "58500.01", 0),
    (r"\frac{1}{10}+\pi", r"0.1+\pi", 1),
    # Bases, sets, tuples and lists.
    ("204_5", "204_6", 0), ("204_5", "204", 1), ("204_5", "54", 0), ("204_5", r"204_{5}", 1),
    ("52_8", r"52_{16}", 0), ("52", "52_8", 0), ("(2,4)", r"\{2,4\}", 0), (r"\{2,4\}", "(2,4)", 0),
    ("(2,4)", "(4,2)", 0), ("(2,4)", "[2,4]", 0), ("(2,4)", "x=2, y=4", 1), ("(2,4)", "x=4, y=2", 0),
    ("-2,1", "x=-2 or x=1", 1), ("1,-2", "1", 0), ("6", "5 or 6", 0),
    (r"\{1\pm\sqrt{5},-2\}", r"-2, 1+\sqrt5, 1-\sqrt5", 1), (r"1 \pm \sqrt{19}", "1 ± √19", 1),
    ("6", r"\{6, 7\}", 0), (r"1, 2, \ldots, n", r"1, 3, 5, \ldots, 2n-1", 0),
    # Intervals and inequalities.
    (r"(2,\infty)", "x>2", 1), (r"(2,\infty)", "(2, ∞)", 1), (r"(2,\infty)", r"x \ge 2", 0),
    (r"(2,\infty)", "2 < x", 1), (r"(-\infty, 2) \cup (3, \infty)", "x < 2 or x > 3", 1),
    (r"(-\infty, 2) \cup (3, \infty)", "(-oo,2)U(3,oo)", 1),
    (r"(-\infty, 2) \cup (3, \infty)", r"(-\infty,2]\cup(3,\infty)", 0), (r"x \in [-2,7]", "-2 <= x <= 7", 1),
    (r"x \in [-2,7]", "[-2,7)", 0), ("5", "x > 5", 0), ("5", r"x \ne 5", 0), ("5", r"x \approx 5", 0),
    # Currency, units, per cent, times.
    (r"\$36", "36 dollars", 1), (r"\$36", "36 cents", 0), (r"5.4 \text{ cents}", r"\$5.40", 0),
    (r"\$32,\!348", "32348", 1), (r"15\mbox{ cm}^2", "15 cm^2", 1), (r"15\mbox{ cm}^2", "15 cm²", 1),
    (r"15\mbox{ cm}^2", "15", 1), ("64", "64 sq ft", 1), (r"15\mbox{ cm}^2", "15 in^2", 0),
    (r"12\pi", r"12\pi \text{ square units}", 1), ("2", "2k", 0), ("2k", "2", 0), ("90^\\circ", "90°", 1),
    ("76^\\circ", "76 degrees", 1), (r"28\%", "0.28", 1), (r"28\%", r"0.28\%", 0), ("28", "28%", 1),
    (r"5:30 \text{ p.m.}", "5:30", 1), (r"5:30 \text{ p.m.}", "5:30 a.m.", 0), ("3:5", "5:3", 0),
    ("3:5", "3 to 5", 1),
    # Units and powers of units, currency and per cent exclude each other; words that are no units.
    (r"15\mbox{ cm}^2", r"15 \text{ cm}^3", 0), (r"12 \text{ cubic inches}", r"12 \text{ in}^3", 1),
    (r"12 \text{ cubic inches}", r"12 \text{ square inches}", 0), (r"\$36", "36%", 0), (r"12\%", r"\$12", 0),
    ("90^\\circ", r"90\%", 0), (r"12\%", r"12 \text{ cm}", 0), (r"70 \text{ mph}", "70 miles per hour", 1),
    ("17", r"17 \text{ remainder } 3", 0), ("17", "17 feet 3 inches", 0),
    ("17", "17 log 2", 0), ("17", "17 choose 2", 0),
    # Brackets that are not those of the gold answer; several inequalities.
    ("(3,-7)", "[3,-7]", 0), ("(3,-7)", "(3, -7)", 1), ("[1,9]", "1,9", 0),
    (r"(-\infty, -3) \cup (3, \infty)", "x < -3 and x > 3", 0),
    (r"(-\infty, -3) \cup (3, \infty)", r"x<-3 \lor x>3", 1),
    (r"(-\infty, -3) \cup (3, \infty)", r"x < -3 \text{ or } x > 3", 1), ("(0,1)", "x > 0 and x < 1", 1),
    ("(0,1)", "x > 0, x < 1", 1), ("(0,1)", "x > 0 or x < 1", 0), ("(0,1)", "x > 0 and y < 1", 0),
    (r"(-\infty, 0) \cup (1, \infty)", "x<0, x>1", 1),
    # Bases by name, lists with three digits after a comma, a base of a logarithm.
    ("2516_8", r"2516_{\text{eight}}", 1), ("2516_8", r"2516_{\text{nine}}", 0),
    ("52", "52_{10}", 1), ("52", "52_{9}", 0),
    ("10, 100", "10,100", 1), ("10, 100", "10100", 0), (r"\log_2 3", r"\frac{\ln 3}{\ln 2}", 1),
    ("204_5", "204_5 6", 0),
    # Plain notation, decoration and words.
    (r"\frac{\pi}{2}", "pi/2", 1), (r"\sqrt{51}", "sqrt(51)", 1), ("1024", "2^10", 1), ("9", "3²", 1),
    ("3", "3²", 0), ("4", "boxed{4}", 1), ("73", "**73**", 1), ("42", "42.", 1), ("42", r"\[ 42 \]", 1),
    ("42", "Answer: 42", 1), ("-35", "–35", 1), ("35", "−35", 0), (r"\text{(E)}", "E", 1),
    (r"\text{(E)}", r"\text{(D)}", 0), (r"\cot x", "cot x", 1), (r"\text{Evelyn}", "evelyn", 1),
    (r"\text{ellipse}", "an ellipse", 1), (r"\text{even}", "odd", 0),
    (r"16\sqrt{3}", r"= 16\sqrt{3}", 1), (r"\pi", r"\pi1", 0), ("p - q", "p - q1", 0), ("90^\\circ", "90^\\circ^2", 0),
    ("90^\\circ", "90º", 1), ("90^\\circ", "90^o", 1), (r"\alpha", "α", 1), ("17", "{}17", 1), ("-3", "{-}3", 1),
    ("10^{4}", "10⁴", 1), ("10^{4}", "104", 0), (r"\emptyset", r"\varnothing", 1),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}", 1),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}", 0),
    (r"1 - \frac{1}{\mathrm{e}}", r"\frac{e-1}{e}", 1), ("y = 2x + 3", "2x - y + 3 = 0", 1), ("x=5", "y = 5", 0),
    # Fractions whose arguments have no braces.
    (r"\frac{\pi}{2}", r"\frac\pi2", 1), (r"\frac{\pi}{2}", r"\dfrac \pi 2", 1),
    (r"\frac{\pi}{12}", r"\frac\pi{12}", 1),
    (r"\frac{3}{\pi}", r"\frac3\pi", 1), (r"\frac{a}{b}", r"\frac a b", 1), (r"\frac{\pi}{6}", r"\frac{\frac\pi2}3", 1),
    (r"-\frac{\pi}{2}", r"-\frac\pi2", 1), (r"(3, \frac{\pi}{2})", r"(3, \frac\pi2)", 1),
    (r"\frac{\pi}{3}", r"\frac\pi2", 0), (r"\frac{2}{\pi}", r"\frac\pi2", 0), (r"\frac{\pi}{2}", r"\frac\pi", 0),
    (r"\frac{\pi}{2}", r"\frac\pi12", 0), (r"\sqrt{\pi}", r"\sqrt\pi", 1), (r"\frac{\sqrt{3}}{2}", r"\frac\sqrt32", 0),
    # Words that multiply a number.
    ("1000000", "1 million", 1), ("2500000", "2.5 million", 1), (r"\$2,\!500,\!000", r"\$2.5 \text{ million}", 1),
    ("1000000", r"1 \text{ million dollars}", 1), ("10^6", "1,000 thousand", 1), ("2500000", r"2\frac12 million", 1),
    ("24", "2 dozen", 1), ("1", "1 million", 0), ("2.5", "2.5 million", 0), ("1000", "1 million", 0),
    ("1000000", "1 millionth", 0), ("2", "2 hundredths", 0),
    ("2000000", "2 million or 3 million", 0), (r"\$1000000", "1 million euros", 0),
]  # fmt: skip

GSM8K = [
    (-3, "- 3", 1), (-3, "minus 3", 1), (3, "- 3", 0), (-3, "–3", 1), (3, "–3", 0), (-3, r"-\$3", 1), (3, r"-\$3", 0),
    (-3, "-€3", 1),
    (2, "2:00 pm", 1), (5, r"5:00 \text{ PM}", 1), (2, "2:30 pm", 0), (14, "14 m^2", 1), (14, r"14 \text{ m}^2", 1),
    (14, "14 cm2", 1), (14, "14 m²", 1), (10000, "10 000", 1), (10000, r"10\ 000", 1), (10000, "1 \\times 10^4", 1),
    (1, "1 \\times 10^4", 0), (2.5, "2 1/2", 1), (2.5, r"2\frac{1}{2}", 1), (2, "2 1/2", 0),
    (0.75, "3/4 of the cake", 1), (0.75, r"\frac{3}{4} \text{ cup}", 1), (73, "**73**", 1), (36, "36 dollars", 1),
    (5, "5^{th}", 1), (2, "in 2 days", 1), (20, "15-20", 0), (6, "5 or 6", 0), (28, "0.28", 0), (18, "１８", 0),
    (-3, "{-}3", 1), (3, "{-}3", 0), (2.5, "2 and 1/2", 1), (2.5, "2 and a half", 1), (2, "2 and a half", 0),
    (10000, "10^4", 1), (10000, "10⁴", 1), (10, "10^4", 0), (4, "10^4", 0), (200000, r"2 \cdot 10^5 miles", 1),
    (2, "2^2", 0), (18, r"\sqrt{18}", 0), (5.5, "5.5.5", 0), (1, "1８", 0), (22, "²²", 0), (18, "> 18", 0),
    (18, r"\ge 18", 0), (18, "x >= 18", 0), (18, "9 * 2 => 18", 1), (18, "9 * 2 → 18", 1), (14, "14 m/s^2", 1),
    (18, "#### 18", 1), (70000, "9 = $70,000", 1),
    # A letter that touches the number is a unit of the list, a thousand or a million, or makes it another number.
    (18, "18x", 0), (18, "18 x", 0), (18, "x = 18y", 0), (18, "18ab", 0), (18, r"18\text{x}", 0),
    (18, r"18\pi", 0), (10, "10 digits of pi", 1), (18, "18π", 0), (18, "18 pi", 0), (18, "x + 18", 0), (18, "x18", 0),
    (18, r"18 \times x", 0), (18, "18k", 0), (18000, "18k", 1), (18000, "$18K", 1), (18000, r"18\text{k}", 1),
    (18, "18M", 0), (18000000, "18M", 1), (18, "18m", 1), (5000000, r"\$5m", 1), (5, r"\$5m", 0),
    (18, "18kg", 1), (18, "18g", 1), (18, "18L", 1), (18, "18ml", 1), (18, "18GB", 1), (6, "6W", 0),
    (18, "18hours", 1), (18, "18cups", 1),
    (18, r"18\text{kg}", 1), (18, "18 V", 1), (18, "18 a day", 1), (18, r"18 \text{ a day}", 1), (5, "5th", 1),
    (2, "2pm", 1), (2, "2 p.m.", 1), (2, "2 o'clock", 1), (762, "762 M&M's", 1), (60, "60 km/h", 1), (18, "18times", 0),
    # Words that multiply a number, which may also be the unit that was asked for: "How many dozens of eggs?"
    (1000000, "1 million", 1), (2500000, "$2.5 million", 1), (2500000, "2 and a half million", 1),
    (1000000, r"1 \text{ million people}", 1), (1000, "1 million", 0), (2000000, "2 million 500 thousand", 0),
    (84, "7 dozen eggs", 1), (7, "7 dozens of eggs", 1), (500, "5 hundred", 1),
]  # fmt: skip

COUNTDOWN = [  # the target is 23, the numbers are 3, 4, 5
    ("3 + 4 ⋅ 5", 1), ("3 + 4 • 5", 1), ("{3 + 4 * 5}", 1), ("3 + 4 x 5", 1), ("[4*5]+3", 1),
    (r"\left[4 \times 5\right] + 3", 1),
    (r"\{4*5\}+3", 1), ("3 + 4 * 5.", 1), ("**3 + 4 * 5**", 1), ("`3 + 4 * 5`", 1), (r"\text{3 + 4 * 5}", 1),
    ("The answer is 3 + 4 * 5", 1), ("$3 + 4 * 5 = 23$", 1), ("3 − (−4) * 5", 1), (r"\frac{3}{4} \times 5", 0),
    ("3 + 45", 0), ("34 - 5", 0), ("3 + 4 * 5 + 0", 0), ("3**4 + 5", 0), ("4 * 5 = 20, 20 + 3 = 23", 0),
    (r"3 + 4 \* 5", 1), ("3 ＋ 4 ＊ 5", 1), ("（4 * 5）+ 3", 1), ("３ + 4 * 5", 0),
    ("3x + 4x5", 0),
]  # fmt: skip

PUZZLE, SOLUTION = "0204032001400402", "1234432121433412"
ROWS = [SOLUTION[i : i + 4] for i in range(0, 16, 4)]
BOARDS = [
    ("\n".join(",".join(row) for row in ROWS), 1), (json.dumps([[int(cell) for cell in row] for row in ROWS]), 1),
    (json.dumps(ROWS), 1), (f'"{SOLUTION}"', 1), (f"{SOLUTION}.", 1), (f"```text\n{SOLUTION}\n```", 1),
    (r"\begin{array}{|*{4}{c|}} " + r" \\[2pt] ".join(" & ".join(row) for row in ROWS) + r" \end{array}", 1),
    ("│" + "│\n│".join(ROWS) + "│", 1), ("/".join(ROWS), 1), (f"{SOLUTION}1", 0), (SOLUTION[:15], 0),
    ("\n".join(f"Row {number}: {' '.join(row)}" for number, row in enumerate(ROWS, 1)), 1),
    (f"The 4x4 board is {SOLUTION}", 1), (f"{SOLUTION}１", 0), (f"Row 1: {SOLUTION[:15]}", 0),
    (SOLUTION.translate(str.maketrans("1234", "１２３４")), 0), ("2143341212344321", 0),
]  # fmt: skip


def boxed(answer):
    return f"</reasoning>\n<answer>\n\\boxed{{{answer}}}\n</answer>"


@pytest.mark.parametrize(("gold", "answer", "right"), MATH500)
def test_math500(gold, answer, right):
    assert strict.math500(boxed(answer), gold).correct == right


@pytest.mark.parametrize(("gold", "answer", "right"), GSM8K)
def test_gsm8k(gold, answer, right):
    assert strict.gsm8k(boxed(answer), float(gold)).correct == right
    assert strict.gsm8k(f"<answer>{answer}</answer>", float(gold)).correct == right


@pytest.mark.parametrize(("answer", "right"), COUNTDOWN)
def test_countdown(answer, right):
    assert strict.countdown(boxed(answer), [3, 4, 5], 23).correct == right
    assert strict.countdown(f"<answer>{answer}</answer>", [3, 4, 5], 23).correct == right


def test_countdown_reads_fractions():
    assert strict.countdown(boxed(r"\dfrac{12}{3} + 4"), [12, 3, 4], 8).correct == 1
    assert strict.countdown(boxed(r"\frac{\frac{12}{3}}{4}"), [12, 3, 4], 1).correct == 1


@pytest.mark.parametrize(("board", "right"), BOARDS)
def test_sudoku(board, right):
    assert strict.sudoku(f"<answer>\n{board}\n</answer>", PUZZLE, SOLUTION).correct == right


def test_a_worker_that_cannot_work_is_an_error(monkeypatch, tmp_path):
    broken = tmp_path / "worker.py"
    broken.write_text("import no_such_module")
    monkeypatch.setattr(equivalence, "WORKER", broken)
    equivalence._worker.cache_clear()
    with pytest.raises(RuntimeError, match=r"worker\.py failed"):
        strict.math500(boxed("x + 3 + a"), "x + a + 3")
    equivalence._worker.cache_clear()


def test_without_a_gold_answer_nothing_is_right():
    for response in ("", "no idea", "\\boxed{x}", "\\boxed{18}"):
        assert published.gsm8k(response, None).correct == strict.gsm8k(response, None).correct == 0


def test_numbers_are_exact():
    numbers = {"0.1": (1, 10), "1/3": (1, 3), "2 1/2": (5, 2), ".5": (1, 2), r"-\frac{2}{-3}": (2, 3),
               "1e-3": (1, 1000), r"1.2\overline{3}": (37, 30)}  # fmt: skip
    assert {text: exact(text) for text in numbers} == {text: Fraction(*value) for text, value in numbers.items()}
    assert [text for text in ("1/0", "4 10/3", "1.2.3", "--3", "", "1e9999") if exact(text) is not None] == []


def test_units_are_not_letters_of_a_formula():
    assert without_unit(plain("15 cm^2")) == ("15", "cm^2")
    assert without_unit(plain("36 dollars")) == ("36", "dollar")
    for text in ("2ab", "2m", "5 million", r"\cot x", r"2\mathrm{e}", r"x \in \{1,2\}", "3/", "6 or 7"):
        assert without_unit(plain(text)) == (text, "")


@pytest.mark.skipif(not CASES.exists(), reason="no ../shared/cases")
@pytest.mark.parametrize("task", ["math500", "gsm8k", "countdown", "sudoku"])
def test_cases_from_reports_on_other_graders(task):
    records = [json.loads(line) for line in (CASES / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]
    wrong = []
    for record in (record for record in records if not record["arguable"]):
        response, gold = understand(task, record)
        if getattr(strict, TASKS[task][0])(response, *gold).correct != record["should_be_right"]:
            wrong.append(record["id"])
    assert wrong == []


UNITS_OF_18 = ["18 y/o", "18 y.o.", "18 c", "18 p", "18 d", "18d", "18qt", "18pt", "18hp", "18Hz", "18kb", "18 kg"]


@pytest.mark.parametrize("answer", UNITS_OF_18)
def test_a_unit_is_no_factor(answer):
    assert strict.gsm8k(f"<answer>{answer}</answer>", 18.0).correct


@pytest.mark.parametrize("answer", ["18x", "18 x", "18y", "18k", "18 hundredths", "18 tenths", "18 thousandths"])
def test_a_factor_changes_the_number(answer):
    assert not strict.gsm8k(f"<answer>{answer}</answer>", 18.0).correct
