"""A training that is told to stop saves its work and goes on to the same result; two never write into one folder."""

import json
import os
import signal
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from helpers.small_trainer import preemptible_trainer, same, trained
from unmask.common import lock
from unmask.common.errors import InputError
from unmask.training.preemption import Preempted

# --- stopping and going on --------------------------------------------------------------------------------------------


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_stopped_by_signals_and_resumed_equals_uninterrupted(job, finish):
    whole, process = job("whole")
    finish(process)
    out, process = job("stopped")
    for number in (signal.SIGTERM, signal.SIGUSR1):
        before = set(out.glob("checkpoints/step-*"))
        wait_for(lambda before=before: set(out.glob("checkpoints/step-*")) - before, process)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == os.EX_TEMPFAIL == 75, said
        step = int(max(out.glob("checkpoints/step-*")).name[5:])
        last = f"dmpo/sudoku/default/seed-0: stopped by a signal after update {step}; the next start resumes there"
        assert said.splitlines()[-1] == last
        assert {path.name for path in out.iterdir()} == {"checkpoints"}
        _, process = job("stopped")
    assert f"resumed after update {step}" in finish(process)
    assert {path.name for path in out.iterdir()} == {"adapter", "metrics.csv", "manifest.json"}
    same_adapter(whole, out)


def same_adapter(*folders):
    one, other = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_second_job_for_a_run_leaves_it_to_the_first(job, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with lock.locked(tmp_path / "run", beat=0.2) as first:
        out, second = job("run")
        said, _ = second.communicate(timeout=60)
        first.check()
        assert [path.name for path in out.iterdir()] == ["lock"]
    assert second.returncode == 1
    holder = f"SLURM job 4711, process {os.getpid()} on {lock.here().split()[0]}"
    assert said == (
        f"{out}/lock: held by {holder}; waiting 60 s for a heartbeat\n"
        f"train_policy: {out}/lock: {holder} is already running this job. Wait for it or stop it, then retry.\n"
    )


def test_stopped_after_every_update_equals_uninterrupted(config, make_policy, sudoku, tmp_path):
    whole = trained(preemptible_trainer(config, make_policy(), sudoku, tmp_path / "whole"))
    for step in (1, 2, 3):  # 4 is the last update: there is nothing to stop
        with pytest.raises(Preempted) as stopped:
            preemptible_trainer(config, make_policy(), sudoku, tmp_path / "stopped", lambda: True).train()
        assert stopped.value.code == 75
        assert max((tmp_path / "stopped").glob("step-*")).name == f"step-{step:06d}"
    assert same(whole, trained(preemptible_trainer(config, make_policy(), sudoku, tmp_path / "stopped", lambda: True)))


@pytest.mark.parametrize(
    "file", ["parameters.safetensors", "buffer.safetensors", "optimizer.safetensors", "state.json", "SHA256SUMS"]
)
def test_a_torn_newest_checkpoint_is_skipped_and_the_result_the_same(
    config, make_policy, sudoku, tmp_path, file, capsys
):
    whole = trained(preemptible_trainer(config, make_policy(), sudoku, tmp_path / "whole"))
    asked = iter([False, False, True])
    with pytest.raises(Preempted):
        preemptible_trainer(config, make_policy(), sudoku, tmp_path / "torn", lambda: next(asked)).train()
    newest = tmp_path / "torn" / "step-000003"
    (newest / file).write_bytes((newest / file).read_bytes()[:-10])
    unfinished = tmp_path / "torn" / ".step-000004.node-1.tmp"
    unfinished.mkdir()
    assert same(whole, trained(preemptible_trainer(config, make_policy(), sudoku, tmp_path / "torn")))
    said = capsys.readouterr().out
    assert f"{newest}: damaged" in said
    assert "resumed after update 2" in said
    assert not unfinished.exists()


# --- the lock ---------------------------------------------------------------------------------------------------------

ELSEWHERE = {"token": "t", "host": "node7 pid:[1]", "pid": 42, "job": "99", "beats": "000000000003"}


def left(folder, **changes):
    """A lock of somebody else."""
    (folder / "lock").write_text(json.dumps(ELSEWHERE | changes) + "\n", encoding="utf-8")
    return folder / "lock"


def test_a_living_holder_is_noticed_and_nothing_touched(tmp_path):
    with lock.locked(tmp_path, beat=0.02) as first:
        with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is already running"), lock.locked(tmp_path):
            pytest.fail("two holders")
        first.check()
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    assert not list(tmp_path.iterdir())


def test_a_holder_on_another_machine_lives_as_long_as_its_counter_moves(tmp_path):
    path, stop = left(tmp_path), threading.Event()

    def live():
        beats = 3
        while not stop.wait(0.05):
            beats += 1
            left(tmp_path, beats=f"{beats:012d}")

    thread = threading.Thread(target=live)
    thread.start()
    with pytest.raises(InputError, match="SLURM job 99, process 42 on node7 is already running this job"):
        lock._take(lock.Lock(path, 1.0), dead=5.0)
    stop.set()
    thread.join()


def test_a_dead_holder_elsewhere_is_replaced_after_its_missed_beats(tmp_path, capsys):
    left(tmp_path)
    began = time.monotonic()
    with lock.locked(tmp_path, dead=0.3) as mine:
        assert time.monotonic() - began >= 0.3
        mine.check()
    assert "stale lock of SLURM job 99, process 42 on node7, which is dead; taken over" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_dead_holder_of_this_machine_is_replaced_at_once(tmp_path):
    process = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(process, 0)
    left(tmp_path, host=lock.here(), pid=process)
    with lock.locked(tmp_path, dead=float("inf")) as mine:
        mine.check()


def test_a_half_written_lock_is_waited_for_and_replaced(tmp_path):
    (tmp_path / "lock").write_text("{", encoding="utf-8")
    with lock.locked(tmp_path, dead=0.1) as mine:
        mine.check()


def test_who_lost_the_lock_writes_no_more_and_leaves_it_alone(tmp_path):
    with lock.locked(tmp_path, beat=0.02) as mine:
        other = left(tmp_path).read_text()
        with pytest.raises(InputError, match="lost to another process"):
            mine.check()
        time.sleep(0.1)  # some beats
    assert (tmp_path / "lock").read_text() == other


def test_a_newer_lock_buried_by_mistake_is_put_back(tmp_path, monkeypatch):
    path = left(tmp_path)
    rename = os.rename

    def slow(source, target):
        left(tmp_path, token="newer")
        rename(source, target)

    monkeypatch.setattr(os, "rename", slow)
    lock._bury(path, path.read_text())
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]
    assert json.loads(path.read_text())["token"] == "newer"


def test_of_many_that_find_a_dead_lock_one_gets_it(tmp_path):
    left(tmp_path)
    inside, most, refused = [], [], []

    def contend():
        try:
            with lock.locked(tmp_path, beat=0.02, dead=0.5) as mine:
                inside.append(mine)
                most.append(len(inside))
                time.sleep(1.5)
                mine.check()
                inside.remove(mine)
        except InputError as error:
            refused.append(error)

    threads = [threading.Thread(target=contend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert len(refused) == 7


def test_no_clock_that_can_jump_is_asked(tmp_path, monkeypatch):
    """The wall clock runs backwards and forwards: the holder is believed, and a dead one found, all the same."""
    clock = iter(range(10**9, -(10**9), -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    with lock.locked(tmp_path, beat=0.02) as first:
        os.utime(tmp_path / "lock", (0, 0))  # as after a jump of fifty years
        with pytest.raises(InputError, match="is already running this job"), lock.locked(tmp_path):
            pytest.fail("two holders")
        first.check()
    left(tmp_path)
    os.utime(tmp_path / "lock", (4e9, 4e9))
    with lock.locked(tmp_path, dead=0.1) as mine:
        mine.check()


HERE_AND_ENDLESS = json.dumps({"host": lock.here(), "pid": 10**30}).encode()


@pytest.mark.parametrize(
    "content", [b"", b"3", b"[]", b'{"host": 3}', b'{"pid": "x"}', b"[" * 9999, b"\x00", b"\xff", HERE_AND_ENDLESS]
)
def test_a_damaged_lock_is_waited_for_and_replaced(tmp_path, content):
    (tmp_path / "lock").write_bytes(content)
    with lock.locked(tmp_path, dead=0.05) as mine:
        mine.check()
    assert not list(tmp_path.iterdir())
