"""Trackers: what they are told, what a kill leaves, and that a run with them is the run without them."""

import importlib.util
import math
import os
import runpy
import signal
import struct
import sys

import pandas as pd
import pytest
from accelerate import PartialState
from accelerate.tracking import TensorBoardTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from helpers import steps
from helpers.paths import ROOT
from helpers.small_trainer import preemptible_trainer, same, trained
from helpers.wandb_files import stored_rows
from unmask.common import distributed
from unmask.common.errors import InputError
from unmask.training.checkpoint_writer import CheckpointWriter
from unmask.training.trackers import Trackers, check_trackers

BOTH = ("tensorboard", "wandb")
needs_wandb = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
KEY = "0123456789abcdef" * 2 + "01234567"  # 40 characters, as W&B's keys have


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)


@pytest.fixture
def make(config, make_policy, sudoku, tmp_path):
    """Makes a training of four updates in the same folder, with trackers or without."""

    def make(*names, folder=tmp_path / "run"):
        one = preemptible_trainer(config, make_policy(), sudoku, folder / "checkpoints")
        one.trackers = Trackers(names, folder, one.run.name, "smoke", one.identity, one.run.values())
        return one

    return make


def in_a_child(action):
    """Run an action in a forked process; return the exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def single(value):
    """The number as an event file stores it, in 32 bits."""
    return struct.unpack("f", struct.pack("f", value))[0]


def events(folder):
    """All values in all event files of a folder as (tag, step, value), read record by record, so nothing is purged."""
    found = []
    for file in sorted(folder.glob("*tfevents*")):
        for event in EventFileLoader(str(file)).Load():
            found += [(value.tag, event.step, make_ndarray(value.tensor).item()) for value in event.summary.value]
    return found


def values_of(metrics):
    """Rows of metrics as (tag, step, value)."""
    plain = [(key, row["step"], value) for row in metrics for key, value in row.items() if key != "step"]
    return [(key, step, single(value)) for key, step, value in plain if value is not None and not math.isnan(value)]


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [BOTH[:1], pytest.param(BOTH, marks=needs_wandb)])
def test_a_run_with_trackers_writes_the_bytes_of_one_without(job, finish, names):
    (plain, first), (out, second) = job("plain"), job("tracked", "--trackers", *names)
    said = finish(first), finish(second)
    assert "warning" not in said[1]
    logs = tuple(f"{name}/" for name in names)
    found = {name: content for name, content in steps.results(out).items() if not name.startswith(logs)}
    assert found.keys() >= {"adapter/adapter_model.safetensors", "adapter/README.md", "metrics.csv", "manifest.json"}
    assert found == steps.results(plain)

    # In full what the file says, also by TensorBoard's own account of the run.
    rows = pd.read_csv(out / "metrics.csv", float_precision="round_trip").to_dict("records")
    assert sorted(events(out / "tensorboard")) == sorted(values_of(rows))
    shown = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in shown.Scalars("loss")] == [(r["step"], single(r["loss"])) for r in rows]
    if "wandb" in names:
        stored = stored_rows(out / "wandb")
        assert [(step, metrics["loss"]) for _, step, metrics in stored] == [(r["step"], r["loss"]) for r in rows]
        assert len({run for run, _, _ in stored}) == 1
    for file in out.rglob("*"):
        assert file.is_dir() or KEY.encode() not in file.read_bytes(), file
    assert KEY not in said[1]


# --- a kill and a resume ----------------------------------------------------------------------------------------------


def killed_after(make, monkeypatch, logged, kept):
    """Begin a training that is killed once update `logged` is; the newest checkpoint is that of update `kept`."""
    write = CheckpointWriter.write

    def log(self, row):
        Trackers.original(self, row)
        if row["step"] == logged:
            os.kill(os.getpid(), signal.SIGKILL)

    def write_some(self, state):
        if state.step <= kept:
            write(self, state)
            self.finish()

    with monkeypatch.context() as patch:
        patch.setattr(Trackers, "original", Trackers.log, raising=False)
        patch.setattr(Trackers, "log", log)
        patch.setattr(CheckpointWriter, "write", write_some)
        assert in_a_child(lambda: make.train()) == -signal.SIGKILL


def test_after_a_kill_tensorboard_has_every_update_once_and_as_in_the_metrics(make, monkeypatch, tmp_path):
    killed_after(make("tensorboard"), monkeypatch, logged=3, kept=1)
    assert {step for _, step, _ in events(tmp_path / "run/tensorboard")} == {1, 2, 3}
    assert [path.name for path in tmp_path.glob("run/checkpoints/step-*")] == ["step-000001"]
    shown = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()

    one = make("tensorboard")
    metrics = one.train()
    assert len(metrics) == 4
    assert sorted(events(tmp_path / "run/tensorboard")) == sorted(values_of(metrics))
    # A server that has read the files of the killed run, while it ran, shows no update twice either.
    assert [event.step for event in shown.Reload().Scalars("seconds")] in ([1, 2, 3], [1, 2, 3, 4])


def test_updates_before_the_tracker_was_switched_on_are_logged_too(make, monkeypatch, tmp_path):
    killed_after(make(), monkeypatch, logged=3, kept=2)
    metrics = make("tensorboard").train()
    assert sorted(events(tmp_path / "run/tensorboard")) == sorted(values_of(metrics))
    shown = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload().Scalars("loss")
    assert shown[1].wall_time - shown[0].wall_time == pytest.approx(metrics[1]["seconds"], abs=1e-3)


def test_a_training_from_the_beginning_replaces_the_events_of_an_earlier_one(make, tmp_path):
    make("tensorboard").train()
    for path in tmp_path.glob("run/checkpoints/*"):
        path.rename(tmp_path / path.name)
    metrics = make("tensorboard").train()
    assert sorted(events(tmp_path / "run/tensorboard")) == sorted(values_of(metrics))


@needs_wandb
def test_after_a_kill_wandb_continues_the_run_and_no_update_is_there_twice(make, monkeypatch, tmp_path):
    killed_after(make("wandb"), monkeypatch, logged=3, kept=1)
    metrics = make("wandb").train()
    stored = stored_rows(tmp_path / "run/wandb")
    assert len({run for run, _, _ in stored}) == 1
    numbers = [step for _, step, _ in stored]
    # The first attempt's last rows may have died with it; of the others, none is there twice.
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 4
    for _, step, row in stored:
        assert row["loss"] == metrics[step - 1]["loss"]


@needs_wandb
def test_another_training_in_the_folder_is_another_run_of_wandb(make, tmp_path):
    make("wandb").train()
    other = make("wandb")
    other.identity = other.trackers.identity = "y"
    other.train()
    stored = stored_rows(tmp_path / "run/wandb")
    assert len({run for run, _, _ in stored}) == 2
    assert sorted(step for _, step, _ in stored) == [1, 1, 2, 2, 3, 3, 4, 4]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_tracker_that_fails_is_one_warning_and_changes_nothing(make, tmp_path, monkeypatch, capsys):
    weights = trained(make(folder=tmp_path / "plain"))
    assert "warning" not in capsys.readouterr().out

    for method, fails_at in {"start": 1, "log": 2, "finish": 1}.items():
        whole, calls = getattr(TensorBoardTracker, method), []

        def broken(self, *args, whole=whole, calls=calls, fails_at=fails_at, **options):
            calls.append(args)
            if len(calls) == fails_at:
                raise OSError("the network is gone")
            return whole(self, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(TensorBoardTracker, method, broken)
            assert same(trained(make("tensorboard", folder=tmp_path / method)), weights)
        said = capsys.readouterr().out
        assert said.count("warning: tensorboard is left out from here on, because it failed (OSError: the netw") == 1
        assert len(calls) == fails_at
        assert PartialState._shared_state == {}  # as before


def test_only_rank_0_logs(monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    one = Trackers(("tensorboard",), tmp_path)
    with one:
        one.start([])
        one.log({"step": 1, "loss": 0.5})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", BOTH)
def test_a_tracker_that_is_not_installed_is_an_error_before_the_model_is_read(job, monkeypatch, tmp_path, capsys, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda one, *rest: None if one == name else find(one, *rest))
    words = [tmp_path / "spec.yaml", "--trackers", name, "--weights", tmp_path / "none", "--data", tmp_path / "none"]
    words += ["--adapter", tmp_path / "out/adapter", "--metrics", tmp_path / "m", "--manifest", tmp_path / "n"]
    monkeypatch.setattr(sys, "argv", [str(ROOT / "src/train_policy.py"), *map(str, words)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(sys.argv[0], run_name="__main__")
    assert str(end.value) == (
        f"train_policy: runtime.trackers: {name} is not installed; run `pip install -e '.[{name}]'` or take it off "
        "the list"
    )


@needs_wandb
def test_wandb_without_a_usable_key_is_an_error_that_does_not_show_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def ask(mode, key):
        import wandb

        monkeypatch.setenv("WANDB_MODE", mode)
        monkeypatch.setenv("WANDB_API_KEY", key)
        wandb.teardown()
        check_trackers(["wandb"])

    ask("offline", "")
    ask("online", KEY)
    with pytest.raises(InputError, match="wandb has no API key; set WANDB_API_KEY"):
        ask("online", "")
    with pytest.raises(InputError, match=r"^runtime\.trackers: wandb: ") as error:
        ask("online", "short secret")
    assert "secret" not in str(error.value)
