"""What a run's result can depend on, why it is stale, and what protects an expensive one."""

import json
import shutil
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from unmask.common import manifest as manifests
from unmask.common.manifest import git_state, signed
from unmask.common.provenance import code_of, differing
from unmask.config.grid.expand import expand
from unmask.planning.overwriting import endangered, lost

NAME = "dmpo/sudoku/default/seed-0"


def test_the_code_of_a_run_has_its_own_method_and_task_and_no_others():
    found = code_of("train_policy", "dmpo", "sudoku")
    needed = {
        "train_policy.py",
        *(f"unmask/{name}.py" for name in ("training/trainer", "rl/rollouts", "methods/dmpo", "tasks/sudoku")),
    }
    assert needed | {"unmask/samplers/decode.py", "unmask/models/policy.py", "unmask/training/optimizer.py"} <= set(
        found
    )
    for apart in ("analysis/figures/accuracy", "planning/status", "methods/diffpo", "tasks/countdown", "config/specs"):
        assert f"unmask/{apart}.py" not in found
    assert "unmask/rl/clipped_ratio.py" in code_of("train_policy", "diffpo", "sudoku")


def made(folder, run, hours, **more):
    folder.mkdir(parents=True)
    content = {"spec": run.digest, "settings": run.values(), "seconds": hours * 450, "processes": 8} | more
    (folder / "manifest.json").write_text(json.dumps(signed(content)), encoding="utf-8")
    return folder / "manifest.json"


def test_only_expensive_runs_with_other_settings_are_protected(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = expand(config)
    made(tmp_path / f"results/smoke/runs/{NAME}", before.runs[NAME], hours=2.0)
    cheap = "diffu_grpo/sudoku/default/seed-0"
    made(tmp_path / f"results/smoke/runs/{cheap}", before.runs[cheap], hours=0.5)
    assert endangered(before, set(before.runs), 1.0) == []
    config["scales"]["smoke"]["training"]["learning_rate"] = 5e-4
    after = expand(config)
    (line,) = endangered(after, set(after.runs), 1.0)
    assert line.startswith(f"{NAME}: finished after 2.0 GPU-hours with other settings (")
    assert "training.learning_rate: 0.001 -> 0.0005" in line
    assert len(endangered(after, set(after.runs), 0.25)) == 2
    assert endangered(after, {cheap}, 1.0) == []


def test_a_spec_changed_by_hand_does_not_cost_the_adapter(grid, tmp_path):
    from dataclasses import replace

    run = grid.runs[NAME]
    path = made(tmp_path / "run", run, hours=3.0)
    changed = replace(run, seed=5)
    assert "seed: 0 -> 5" in lost(path, changed, 1.0)
    assert lost(path, run, 1.0) == ""
    assert lost(path, changed, float("inf")) == ""
    resumed = made(tmp_path / "resumed", run, hours=0.1, seconds_training=3600.0)
    assert "finished after 8.0 GPU-hours" in lost(resumed, changed, 1.0)  # of which the last start took a tenth
    (tmp_path / "resumed/adapter").mkdir()
    resumed.write_text(resumed.read_text(encoding="utf-8").replace("seconds", "sceonds"), encoding="utf-8")
    assert "cannot be read" in lost(resumed, changed, 1.0)
    assert lost(resumed, changed, float("inf")) == ""
    changed.write(tmp_path / "run/spec.yaml")
    (tmp_path / "run/adapter").mkdir()
    words = ["--weights", "w", "--data", "d", "--validation", "v", "--adapter", tmp_path / "run/adapter"]
    words += ["--metrics", tmp_path / "run/metrics.csv", "--manifest", path]
    done = subprocess.run(
        [sys.executable, ROOT / "src/train_policy.py", tmp_path / "run/spec.yaml", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "finished after 3.0 GPU-hours with other settings (seed: 0 -> 5). Nothing was touched." in done.stderr
    assert (tmp_path / "run/adapter").exists()


def test_settings_that_differ_are_named_with_both_values():
    old = {"training": {"buffers": 4, "dtype": "auto"}, "seed": 0}
    assert differing(old, {"training": {"buffers": 8, "dtype": "auto"}, "seed": 0, "corpus": True}) == [
        "corpus: None -> True",
        "training.buffers: 4 -> 8",
    ]


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_commit_of_someone_elses_clone_is_read(tmp_path, monkeypatch):
    """git refuses a clone of another owner unless it is told that the folder is safe."""
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    monkeypatch.setattr(manifests, "SOURCE", tmp_path)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    asked = subprocess.run(["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    assert "dubious ownership" in asked.stderr
    state = git_state()
    assert state is not None
    assert len(state["commit"]) == 40
