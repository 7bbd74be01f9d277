"""Collapsed runs by hand: first alarms, shares, and the mark in the report."""

import json

import numpy as np
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
        ["Sudoku", "DMPO", "0 of 2", "0 [0, 84]", "", ""],
        ["Sudoku", "SPG", "1 of 2", "50 [1, 99]", "length 1", "clipped 1"],
    ]
    assert [round(1 - p**0.5, 2) for p in (0.025, 0.975)] == [0.84, 0.01]


def test_alarms_about_weights_are_no_collapse():
    """A clip of ±0.0004 is reached by nearly all pairs although the policy learns."""
    text = collapses.markdown(pd.concat([run("gdsd", 0, 0, 32), run("gdsd", 1, 48, 32)]))
    row = next(line for line in text.splitlines() if line.startswith("| Sudoku"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[2:] == ["0 of 2", "0 [0, 84]", "", "effective sample size 1, clipped 2"]


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


def test_a_run_has_collapsed_if_an_alarm_is_about_its_responses():
    """16 and 32 are about weights; 36 has 4, the length, too. The order of the rows does not matter."""
    metrics = pd.concat([run("spg", 0, 0, 36, 0, 32), run("spg", 1, 16, 32, 0, 0)], ignore_index=True)
    found = collapses.with_collapses(metrics.iloc[::-1]).sort_values(["seed", "step"])
    assert found["collapsed"].tolist() == [1.0] * 4 + [0.0] * 4


def test_a_collapse_begins_with_the_fall_and_not_with_its_alarm():
    """The reward falls at the third update, the accuracy at the fourth; both alarms come with the last one."""
    reward = run("spg", 0, 0, 0, 0, 0, 1).assign(reward=[0.4, 0.5, 0.1, 0.1, 0.1], accuracy=0.0)
    accuracy = run("spg", 1, 0, 0, 0, 0, 2).assign(reward=0.5, accuracy=[0.4, 0.5, 0.4, 0.0, 0.0])
    trapped = run("spg", 2, 0, 0, 0, 8, 8).assign(reward=[0.1, 0.1, 0.2, 0.2, 0.2], accuracy=0.0)
    found = collapses.with_collapses(pd.concat([reward, accuracy, trapped], ignore_index=True))
    assert found.groupby("seed")["collapsed_time"].apply(list).tolist() == [
        [0.0, 0.0, 1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 1.0, 1.0],
    ]


def test_the_fall_by_hand():
    """Of 1, 3, 3, 0 the splits gain 3·1·(1 − 2)² (a rise), 2·2·(2 − 1.5)² = 1 and 3·1·(7/3)² = 16.3."""
    assert collapses.fall(np.array([1.0, 3.0, 3.0, 0.0])) == 3
    assert collapses.fall(np.array([0.0, 1.0, 2.0])) == 3  # never falls
    assert collapses.fall(np.array([1.0])) == 1
    rise = np.concatenate((np.linspace(0.1, 0.8, 20), np.full(12, 0.2)))
    assert collapses.fall(rise) == 20


def test_runs_without_alarms_are_unknown():
    joined = pd.concat([run("spg", 0, 4), run("spg", 1, 0).drop(columns="alarm")], ignore_index=True)
    assert collapses.with_collapses(joined)["collapsed"].isna().tolist() == [False, True]
    assert collapses.with_collapses(METRICS.drop(columns="alarm"))["collapsed_time"].isna().all()
