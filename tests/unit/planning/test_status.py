"""What `plan` says of a run in each state, and what it reads from SLURM's queue."""

import json
import os
import time

import pytest

from unmask.common import lock
from unmask.common.manifest import signed
from unmask.common.provenance import CHECKPOINT_FORMAT
from unmask.planning.status import Job, RunStatus, duplicate_jobs, jobs_of, slurm_jobs, standing, totals

NAME = "dmpo/sudoku/default/seed-0"
TODAY = {"unmask/training/trainer.py": "0", "unmask/config/specs.py": "0"}
TOMORROW = TODAY | {"unmask/training/trainer.py": "1"}
MINE = "rule_train_policy_wildcards_smoke_dmpo_sudoku_default_seed-0"


@pytest.fixture
def run(grid):
    return grid.runs[NAME]  # 2 buffers × 2 updates


def checkpoint(folder, digest, step, seconds=2.0, age=1.0, version=CHECKPOINT_FORMAT):
    path = folder / f"checkpoints/step-{step:06d}/state.json"
    path.parent.mkdir(parents=True)
    rows = [{"seconds": seconds}] * step
    state = {"step": step, "format": version, "identity": f"{digest}-data:1", "metrics": rows}
    path.write_text(json.dumps(state), encoding="utf-8")
    os.utime(path, (time.time() - age,) * 2)


def made(folder, digest, source=TODAY):
    (folder / "adapter").mkdir(parents=True)
    manifest = {"spec": digest, "source": source or TODAY, "seconds_training": 7200.0}
    (folder / "manifest.json").write_text(json.dumps(signed(manifest)), encoding="utf-8")


def test_a_run_without_anything_is_to_do(run, tmp_path):
    assert standing(run, tmp_path, [], TODAY) == RunStatus(NAME, "to do", 0, 4, 0)


def test_a_submitted_run_is_queued(run, tmp_path):
    found = standing(run, tmp_path, [Job("7", "PENDING", MINE)], TODAY)
    assert found == RunStatus(NAME, "queued", 0, 4, 0, note="job 7")


def test_a_run_with_a_checkpoint_and_no_holder_is_stopped(run, tmp_path):
    checkpoint(tmp_path, run.digest, 1)
    checkpoint(tmp_path, run.digest, 3)
    assert standing(run, tmp_path, [], TODAY) == RunStatus(NAME, "stopped", 3, 4, 6.0)


def test_checkpoints_of_other_settings_do_not_count(run, tmp_path):
    checkpoint(tmp_path, "other", 3)
    assert standing(run, tmp_path, [], TODAY).state == "to do"


def test_checkpoints_of_older_code_do_not_count(run, tmp_path):
    checkpoint(tmp_path, run.digest, 3, version=CHECKPOINT_FORMAT - 1)
    assert standing(run, tmp_path, [], TODAY).state == "to do"


def test_a_torn_checkpoint_does_not_count(run, tmp_path):
    checkpoint(tmp_path, run.digest, 1)
    checkpoint(tmp_path, run.digest, 2)
    (tmp_path / "checkpoints/step-000002/state.json").write_text("{", encoding="utf-8")
    assert standing(run, tmp_path, [], TODAY).step == 1


def test_a_running_run_tells_who_and_how_long(run, tmp_path):
    checkpoint(tmp_path, run.digest, 1, seconds=10.0, age=5.0)
    with lock.locked(tmp_path):
        found = standing(run, tmp_path, [], TODAY)
    assert (found.state, found.step, found.seconds) == ("running", 1, 10.0)
    assert found.left == pytest.approx(3 * 10.0 - 5.0, abs=1.0)
    assert found.note.startswith(f"process {os.getpid()} on ")


def test_a_lock_that_has_not_moved_for_a_minute_holds_nothing(run, tmp_path):
    (tmp_path / "lock").write_text("{}", encoding="utf-8")
    os.utime(tmp_path / "lock", (time.time() - 61,) * 2)
    assert standing(run, tmp_path, [], TODAY).state == "to do"


def test_a_made_run_is_done_or_stale_or_of_other_settings(run, tmp_path):
    made(tmp_path / "done", run.digest)
    assert standing(run, tmp_path / "done", [], TODAY) == RunStatus(NAME, "done", 4, 4, 7200.0)
    stale = standing(run, tmp_path / "done", [], TOMORROW)
    said = "made by different code (unmask/training/trainer.py); delete its adapter to rerun it"
    assert (stale.state, stale.note) == ("stale", said)
    made(tmp_path / "other", "0123456789ab")
    other = standing(run, tmp_path / "other", [], TODAY)
    assert (other.state, other.note) == ("to do", "made with other settings")


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        ('{"job": "9"}', "keep job 9, cancel duplicates: scancel 7 8"),
        ("", "keep job 8, cancel duplicates: scancel 7 9"),
    ],
)
def test_of_twins_the_one_at_work_stays(holder, said):
    jobs = [Job("7", "PENDING", MINE), Job("8", "RUNNING", MINE), Job("9", "RUNNING", MINE)]
    assert duplicate_jobs(holder, jobs) == said
    assert duplicate_jobs(holder, jobs[:1]) == ""


def test_the_queue_is_asked_for_jobs_of_this_folder(tmp_path, monkeypatch, capsys):
    here = tmp_path.resolve()
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\necho '7|PENDING|{here}|{MINE}'\necho '8|RUNNING|/else|{MINE}'\n", encoding="utf-8")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    jobs = slurm_jobs(tmp_path)
    assert jobs == [Job("7", "PENDING", MINE)]
    assert jobs_of(NAME, "smoke", jobs) == jobs
    assert jobs_of("dmpo/sudoku/default/seed-1", "smoke", jobs) == []
    squeue.write_text("#!/bin/sh\necho 'no contact' >&2; exit 1\n", encoding="utf-8")
    assert slurm_jobs(tmp_path) == []
    assert "squeue failed, so the state of the queue is unknown: no contact" in capsys.readouterr().err


def test_totals_count_states_and_hours():
    runs = [
        RunStatus("a", "done", 4, 4, 5400.0),
        RunStatus("b", "running", 1, 4, 1800.0, left=3600.0),
        RunStatus("c", "to do", 0, 4, 0.0),
    ]
    line = "3 runs: 1 done, 1 running, 1 to do; 2.00 hours of updates done, 1.00 left in the running ones"
    assert totals(runs) == line
    assert totals([]) == "0 runs: none; 0.00 hours of updates done"
