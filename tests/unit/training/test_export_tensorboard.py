"""Metrics of finished runs as TensorBoard logs, read back with TensorBoard's own reader."""

import datetime
import json
import runpy
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from helpers.paths import ROOT
from unmask.common.manifest import write_manifest

RUNS = ("dmpo/sudoku/default/seed-0", "dmpo/sudoku/baseline~none/seed-1")
# Two updates, 1.5 s and 2.25 s long; only the second was validated, and the first had no loss.
METRICS = "step,reward,loss,validation,seconds\n1,0.1,,,1.5\n2,0.30000000000000004,-2.5,0.75,2.25\n"


@pytest.fixture
def results(tmp_path):
    """Results of two finished runs, and of one that is not finished."""
    for name in (*RUNS, "dmpo/sudoku/default/seed-9"):
        run = tmp_path / "results/runs" / name
        run.mkdir(parents=True)
        (run / "metrics.csv").write_text(METRICS, encoding="utf-8")
        if name in RUNS:
            write_manifest(run / "manifest.json", "d" * 12, {}, [], time.monotonic())
    return tmp_path / "results"


@pytest.fixture
def export(results, tmp_path, monkeypatch):
    """Runs the step; returns what it ends with, None if all went well."""

    def export(out=tmp_path / "logs", results=results):
        monkeypatch.setattr(sys, "argv", ["src/export_tensorboard.py", str(results), str(out)])
        try:
            runpy.run_path(str(ROOT / "src/export_tensorboard.py"), run_name="__main__")
        except SystemExit as end:
            return str(end)
        return None

    return export


def test_every_value_of_every_finished_run_is_there_once(export, results, tmp_path):
    for _ in range(2):  # the second export takes the place of the first
        assert export() is None
    shown = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "logs")).Reload()
    assert shown.Runs().keys() == set(RUNS)
    for run in RUNS:
        found = {tag: [(e.step, e.value) for e in shown.Scalars(run, tag)] for tag in shown.Runs()[run]["scalars"]}
        assert found == {
            "reward": [(1, pytest.approx(0.1)), (2, pytest.approx(0.3))],
            "loss": [(2, -2.5)],
            "validation": [(2, 0.75)],
            "seconds": [(1, 1.5), (2, 2.25)],
        }
        assert len(list((tmp_path / "logs" / run).iterdir())) == 1
        # The last update ended when the run did, and took 2.25 s.
        first, last = (event.wall_time for event in shown.Scalars(run, "reward"))
        finished = json.loads((results / "runs" / run / "manifest.json").read_text())["finished"]
        assert last == datetime.datetime.fromisoformat(finished).timestamp()
        assert last - first == pytest.approx(2.25)


def test_the_folder_of_the_runs_is_never_replaced(export, results):
    said = export(out=results / "runs")
    assert "which is no TensorBoard log; choose another folder" in said
    for run in RUNS:
        assert {path.name for path in (results / "runs" / run).iterdir()} == {"manifest.json", "metrics.csv"}


def test_folders_without_finished_runs_and_broken_files_are_named(export, results, tmp_path):
    assert "no finished run (metrics.csv and manifest.json)" in export(results=tmp_path)
    (results / "runs" / RUNS[1] / "metrics.csv").write_text("step,loss\n1,2\n", encoding="utf-8")
    assert f"{RUNS[1]}/metrics.csv: no column seconds. Delete it" in export()
