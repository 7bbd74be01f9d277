"""Checkpoints are written by the clock, in a thread, without what has not changed, and stay whole and exact."""

import os
import shutil
import threading
import time

import pytest
import torch

from helpers.small_trainer import preemptible_trainer, same, sudoku_trainer, trained
from unmask.common import distributed
from unmask.common.checksums import sealed, verify_checksums
from unmask.common.errors import InputError
from unmask.planning.checkpoint_size import checkpoint_bytes, most_checkpoint_bytes
from unmask.training import checkpoint
from unmask.training.checkpoint import Checkpoint, folders
from unmask.training.checkpoint_writer import CheckpointWriter


def state(step, reference, best, buffer, value=None):
    """A state whose parameters differ from step to step."""
    moving = {"a": torch.full((3,), float(step if value is None else value))}
    return Checkpoint(step, moving, {"0.step": torch.tensor(float(step))}, buffer, [{"step": step}], reference, best)


@pytest.fixture
def steady():
    return {name: {"w": torch.randn(5), "v": torch.randn(2)} for name in ("reference", "best", "buffer")}


@pytest.fixture
def writer(tmp_path):
    return CheckpointWriter(tmp_path, "x", minutes=0)


def inode(folder, step, name):
    return (folder / f"step-{step:06d}" / f"{name}.safetensors").stat().st_ino


def test_files_that_have_not_changed_are_linked(writer, steady, tmp_path):
    writer.write(state(1, **steady))
    writer.write(state(2, **steady | {"buffer": {"w": torch.randn(5)}}))
    writer.finish()
    assert inode(tmp_path, 1, "reference") == inode(tmp_path, 2, "reference")
    assert inode(tmp_path, 1, "best") == inode(tmp_path, 2, "best")
    assert inode(tmp_path, 1, "buffer") != inode(tmp_path, 2, "buffer")
    assert inode(tmp_path, 1, "parameters") != inode(tmp_path, 2, "parameters")
    for path in folders(tmp_path):
        verify_checksums(path)
    found = Checkpoint.newest(tmp_path, "x")
    assert found.step == 2
    assert all(torch.equal(found.reference[name], value) for name, value in steady["reference"].items())


def test_a_file_outlives_the_checkpoint_that_wrote_it(writer, steady, tmp_path):
    for step in range(1, 6):
        writer.write(state(step, **steady))
        writer.finish()
        assert step == 1 or inode(tmp_path, step - 1, "reference") == inode(tmp_path, step, "reference")
    assert [path.name for path in folders(tmp_path)] == ["step-000004", "step-000005"]
    found = Checkpoint.newest(tmp_path, "x")
    assert all(torch.equal(found.buffer[name], value) for name, value in steady["buffer"].items())


@pytest.mark.parametrize("change", ["in place", "another tensor", "one more", "gone from the disk"])
def test_a_file_that_has_changed_is_written(writer, steady, tmp_path, change):
    writer.write(state(1, **steady))
    writer.finish()
    if change == "in place":
        steady["best"]["w"].add_(1)
    elif change == "another tensor":
        steady["best"] = {name: value.clone() for name, value in steady["best"].items()}
    elif change == "one more":
        steady["best"]["z"] = torch.ones(1)
    else:
        shutil.rmtree(tmp_path / "step-000001")
    writer.write(state(2, **steady))
    writer.finish()
    assert change == "gone from the disk" or inode(tmp_path, 1, "best") != inode(tmp_path, 2, "best")
    found = Checkpoint.newest(tmp_path, "x").best
    assert same(found, steady["best"])


def test_where_the_disk_has_no_links_files_are_copied(writer, steady, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "no links")))
    writer.write(state(1, **steady))
    writer.write(state(2, **steady))
    writer.finish()
    assert inode(tmp_path, 1, "reference") != inode(tmp_path, 2, "reference")
    verify_checksums(tmp_path / "step-000002")
    assert same(Checkpoint.newest(tmp_path, "x").reference, steady["reference"])


def test_a_linked_file_keeps_its_first_hash_so_that_damage_is_found(writer, steady, tmp_path, capsys):
    writer.write(state(1, **steady))
    writer.finish()
    file = tmp_path / "step-000001/reference.safetensors"
    first = sealed(file.parent)[file.name]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    writer.write(state(2, **steady))
    writer.finish()
    assert sealed(tmp_path / "step-000002")[file.name] == first
    assert Checkpoint.newest(tmp_path, "x") is None
    assert "step-000002: damaged" in capsys.readouterr().out


def test_updates_continue_while_a_checkpoint_is_written_and_do_not_change_it(writer, steady, tmp_path, monkeypatch):
    gate, save = threading.Event(), checkpoint.save_file
    monkeypatch.setattr(checkpoint, "save_file", lambda *given: (gate.wait(20), save(*given)))
    now = state(1, **steady)
    began = time.monotonic()
    writer.write(now)
    assert time.monotonic() - began < 5  # nobody waits for the gate
    now.parameters["a"].add_(100)
    now.metrics.append({"step": 2})
    assert not folders(tmp_path)
    gate.set()
    writer.finish()
    found = Checkpoint.newest(tmp_path, "x")
    assert found.parameters["a"].tolist() == [1.0] * 3
    assert found.metrics == [{"step": 1}]


def test_an_error_of_the_thread_is_raised_at_the_next_checkpoint_or_the_end(writer, steady, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    writer.write(state(1, **steady))
    with pytest.raises(InputError, match="step-000001: cannot be written: No space left on device"):
        writer.write(state(2, **steady))
    with pytest.raises(InputError, match="step-000003: cannot be written"), writer:
        writer.write(state(3, **steady))
    writer.write(state(4, **steady))
    with pytest.raises(ZeroDivisionError), writer:  # the first error is the one to tell
        _ = 1 / 0
    monkeypatch.undo()
    writer.write(state(5, **steady))
    writer.finish()


def test_the_first_process_decides_by_its_clock(tmp_path, monkeypatch):
    writer = CheckpointWriter(tmp_path, "x", minutes=10)
    now = time.monotonic()
    for later, due in ((9.9 * 60, False), (10.1 * 60, True)):
        monkeypatch.setattr(time, "monotonic", lambda later=later: now + later)
        assert writer.due() == due
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert not writer.due()
    writer.write(None)  # the others have nothing to do


def test_no_checkpoint_before_its_time(config, make_policy, sudoku, tmp_path):
    one = preemptible_trainer(config, make_policy(), sudoku, tmp_path)
    one.checkpoint_minutes = 10
    trained(one)
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_links_what_the_checkpoint_holds(config, make_policy, sudoku, tmp_path):
    whole = trained(preemptible_trainer(config, make_policy(), sudoku, tmp_path / "whole"))
    links = []
    for step in (1, 2, 3):  # a start each
        with pytest.raises(SystemExit):
            preemptible_trainer(config, make_policy(), sudoku, tmp_path / "stopped", lambda: True).train()
        links.append([inode(tmp_path / "stopped", step, name) for name in ("reference", "best")])
    assert links[0] == links[1] == links[2]
    assert same(whole, trained(preemptible_trainer(config, make_policy(), sudoku, tmp_path / "stopped")))


def test_the_estimated_size_is_that_on_the_disk(config, make_policy, sudoku, tmp_path):
    one = sudoku_trainer(config, make_policy(), sudoku, tmp_path, buffers=1, updates_per_buffer=1)
    one.train()
    found, trained_ = Checkpoint.newest(tmp_path, "x"), sum(p.numel() for p in one.policy.trainable().values())
    estimated = checkpoint_bytes(trained_, one.settings)
    steps = sum(value.nbytes for name, value in found.optimizer.items() if name.endswith(".step"))
    for name, size in estimated.items():
        assert sum(value.nbytes for value in found.tensors[name].values()) - steps * (name == "optimizer") == size > 0
    assert checkpoint_bytes(10, one.settings.model_copy(update={"validate_every": 0}))["best"] == 0


def test_the_most_on_the_disk_counts_what_is_linked_once(grid):
    training = grid.runs["dmpo/sudoku/default/seed-0"].training
    training = training.model_copy(update={"validate_every": 1, "reference_sync": 0})
    assert most_checkpoint_bytes(10, training) == 40 * (3 * 4 + 1)
    assert most_checkpoint_bytes(10, training.model_copy(update={"reference_sync": 1})) == 40 * 3 * 5


def test_only_the_first_process_removes_what_looks_damaged(writer, steady, tmp_path, monkeypatch):
    """Another node may see a file late."""
    writer.write(state(1, **steady))
    writer.finish()
    (tmp_path / "step-000001/state.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert Checkpoint.newest(tmp_path, "x") is None
    assert folders(tmp_path)
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    assert Checkpoint.newest(tmp_path, "x") is None
    assert not folders(tmp_path)


def test_checkpoints_of_a_job_that_took_over_are_left_alone(steady, tmp_path):
    for step in (3, 4, 2):
        state(step, **steady).save(tmp_path, "x")
    assert [path.name for path in folders(tmp_path)] == ["step-000002", "step-000003", "step-000004"]
