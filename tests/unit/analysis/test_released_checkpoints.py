"""The table of released checkpoints: accuracies, paired gains and printed numbers, computed by hand."""

import csv
import io
import math

import pandas as pd
import pytest

from unmask.analysis.released_checkpoints import Described, PrintedNumbers, cells, summary, texts
from unmask.analysis.statistics import problem_interval

# Four Sudoku boards with 1, 1, 2 and 4 blanks: shares of right blanks, and boards solved.
BASE = {"published": [0.0, 1.0, 0.5, 0.0], "strict": [0.0, 1.0, 0.0, 0.0]}
OURS = {"published": [1.0, 1.0, 1.0, 0.25], "strict": [1.0, 1.0, 1.0, 0.0]}
POINTS = [1, 1, 2, 4]


def samples(sampler="top1", length=128, shuffled=False):
    rows = []
    for method, grades in (("base", BASE), ("espo", OURS)):
        for example in range(4):
            rows.append(
                {"method": method, "task": "sudoku", "variant": "default", "seed": 0, "sampler": sampler,
                 "length": length, "example": example, "points": POINTS[example], "nfe": length, "tokens": 9,
                 "seconds": 0.1, **{protocol: grades[protocol][example] for protocol in grades}}
            )  # fmt: skip
    return pd.DataFrame(rows[::-1] if shuffled else rows)


def described(**changes):
    values = {"name": "espo", "method": "ESPO", "kind": "adapter", "base": "llada", "place": "ml/espo at 0123456",
              "steps": {"top1": "L", "top2": "L/2"}, "printed": []}  # fmt: skip
    return Described.of(values | changes)


def test_accuracies_and_gains_by_hand():
    (cell,) = cells(samples()).to_dict("records")
    # Blanks: base 0 + 1 + 1 + 0 = 2 of 8, ours 1 + 1 + 2 + 1 = 5 of 8. Boards: 1 of 4 and 3 of 4.
    assert (cell["published_base"], cell["published"], cell["published_gain"]) == (0.25, 0.625, 0.375)
    assert (cell["strict_base"], cell["strict"], cell["strict_gain"]) == (0.25, 0.75, 0.5)
    # Σ (right − 5/8 · blanks)² = (3/8)² + (3/8)² + (6/8)² + (12/8)², its root divided by the 8 blanks.
    error = math.sqrt(2 * 0.375**2 + 0.75**2 + 1.5**2) / 8
    assert (cell["published_low"], cell["published_high"]) == pytest.approx(problem_interval(0.625, error, 4))
    assert cell["strict_low"] < 0.75 < cell["strict_high"]
    # Boards gained: 1, 0, 1, 0. A bootstrap mean of four such lies between 0 and 1 and around 1/2.
    assert 0 <= cell["strict_gain_low"] < 0.5 < cell["strict_gain_high"] <= 1


def test_gains_are_paired_by_example_whatever_the_order_of_rows():
    ordered, shuffled = cells(samples()), cells(samples(shuffled=True))
    pd.testing.assert_frame_equal(ordered, shuffled)
    mixed = samples()
    ours = mixed.method == "espo"
    mixed.loc[ours, "example"] = [0, 2, 3, 1]  # board 1 is now lost: the same grades, paired otherwise
    assert cells(mixed)["strict_gain_low"].item() != ordered["strict_gain_low"].item()


def test_a_single_problem_has_no_interval_of_the_gain():
    one = samples()
    (cell,) = cells(one[one.example == 0]).to_dict("records")
    assert cell["strict_gain"] == 1.0
    assert math.isnan(cell["strict_gain_low"])
    assert "| +100.0  " in summary(one[one.example == 0].to_dict("records"))


def test_printed_numbers_stand_at_their_length_and_steps():
    numbers = [
        PrintedNumbers("Table 1", {"sudoku": {"128": 92.7, "256": 84.7}}, "L", "best on test", "one example"),
        PrintedNumbers("card", {"sudoku": {"unstated": 93.6}}),
        PrintedNumbers("issue", {"sudoku": {"128": 60.0}}, "L/2"),
        PrintedNumbers("other task", {"countdown": {"128": 11.1}}, "L"),
    ]  # fmt: skip
    rows = pd.concat([samples("top1"), samples("top2"), samples("top1", 256)])
    found = texts([rows], [described(printed=[vars(one) for one in numbers])])
    lines = [line for line in found[".md"].splitlines() if line.startswith("| L")]
    assert "92.7; 93.6 (L and steps not stated)" in lines[0]
    assert "best on test; not stated" in lines[0]
    assert "93.6 (L and steps not stated); 60.0" in lines[1]
    assert "84.7; 93.6" in lines[2]
    assert "11.1" not in found[".md"]
    assert "- Table 1; checkpoint: best on test; one example" in found[".md"]
    assert "## ESPO on Sudoku: ml/espo at 0123456, adapter, base llada" in found[".md"]

    records = list(csv.DictReader(io.StringIO(found[".csv"])))
    assert [(r["steps"], r["length"], r["printed"]) for r in records] == [
        ("L", "128", "92.7"), ("L", "128", "93.6"), ("L/2", "128", "93.6"), ("L/2", "128", "60.0"),
        ("L", "256", "84.7"), ("L", "256", "93.6"),
    ]  # fmt: skip
    assert float(records[0]["published"]) == 0.625
    assert records[1]["printed_note"] == "(L and steps not stated)"


def test_a_checkpoint_without_printed_numbers_has_its_rows():
    found = texts([samples()], [described()])
    assert "| –" in found[".md"]
    assert "Printed by" not in found[".md"]
    (record,) = csv.DictReader(io.StringIO(found[".csv"]))
    assert record["printed"] == ""
    assert record["strict"] == "0.75"
    assert r"\begin{tabular}" in found[".tex"]
