"""Collapsed runs by hand: first alarms, shares, and the mark in the report."""

import json

import pandas as pd

from unmask.analysis import collapses
from unmask.analysis.html_report import runs
from unmask.common.alarms import Cause
from unmask.common.manifest import signed
from unmask.methods import method_colour


def run(method, seed, *alarms, task="sudoku"):
    labels = {"method": method, "task": task, "variant": "default", "seed": seed}
    return pd.DataFrame([labels | {"step": step, "alarm": alarm} for step, alarm in enumerate(alarms, 1)])


METRICS = pd.concat(
    [run("dmpo", 0, 0, 0, 0), run("dmpo", 1, 0, 0, 0), run("spg", 0, 0, 4, 36), run("spg", 1, 0, 0, 0)],
    ignore_index=True,
)


def test_first_updates_of_each_cause():
    """4 is the length, 36 = 4 + 32 adds clipping; what has gone by the end still counts."""
    assert collapses.first_alarms(run("spg", 0, 0, 4, 36, 32)) == {Cause.LENGTH: 2, Cause.CLIPPED: 3}
    assert collapses.mark(run("spg", 0, 0, 4, 36, 32)) == "length from update 2, clipped from update 3"
    assert collapses.mark(run("spg", 0, 0, 0)) == ""


def test_shares_by_hand():
    """One of two, and none of two: the exact intervals are [1 − 0.975^½, its mirror] and [0, 1 − 0.025^½]."""
    text = collapses.markdown(METRICS)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| S")]
    assert cells == [
        ["Sudoku", "DMPO", "0 of 2", "0 [0, 84]", ""],
        ["Sudoku", "SPG", "1 of 2", "50 [1, 99]", "length 1, clipped 1"],
    ]
    assert [round(1 - p**0.5, 2) for p in (0.025, 0.975)] == [0.84, 0.01]


def test_without_alarms_one_line_and_without_the_column_nothing():
    healthy = METRICS.assign(alarm=0)
    assert collapses.markdown(healthy) == "## Collapsed runs\n\nNone of 4 training runs raised the collapse alarm.\n"
    old = METRICS.drop(columns="alarm")
    assert collapses.markdown(old) == ""
    assert collapses.mark(old) == ""


def test_runs_of_older_code_are_not_counted():
    joined = pd.concat([run("spg", 0, 0, 4), run("spg", 1, 0, 0).drop(columns="alarm")])
    assert "| 1 of 1 |" in " ".join(collapses.markdown(joined).split())


def test_the_report_marks_a_run(grid, tmp_path):
    spec = grid.runs["dmpo/sudoku/default/seed-0"]
    spec.write(tmp_path / "spec.yaml")
    table = "step,reward,accuracy,nfe,alarm\n1,0.5,0.5,4,0\n2,0.0,0.0,4,1\n"
    (tmp_path / "metrics.csv").write_text(table, encoding="utf-8")
    manifest = {"git": None, "seconds": 1.0}
    (tmp_path / "manifest.json").write_text(json.dumps(signed(manifest)), encoding="utf-8")
    row = runs._with_training(runs.Row(spec, "", method_colour("dmpo"), ""), tmp_path)
    assert row.alarm == "reward fell from update 2"


def test_a_run_has_collapsed_from_its_first_alarm_about_responses_on():
    """16 and 32 are about weights; the order of the rows does not matter."""
    metrics = pd.concat([run("spg", 0, 0, 36, 0, 32), run("spg", 1, 16, 32, 0, 0)], ignore_index=True)
    found = collapses.with_collapses(metrics.iloc[::-1]).sort_values(["seed", "step"])
    assert found["collapsed"].tolist() == [1.0] * 4 + [0.0] * 4
    assert found["collapsed_time"].tolist() == [0.0, 1.0, 1.0, 1.0] + [0.0] * 4


def test_runs_without_alarms_are_unknown():
    joined = pd.concat([run("spg", 0, 4), run("spg", 1, 0).drop(columns="alarm")], ignore_index=True)
    assert collapses.with_collapses(joined)["collapsed"].isna().tolist() == [False, True]
    assert collapses.with_collapses(METRICS.drop(columns="alarm"))["collapsed_time"].isna().all()
