"""The trainer: a killed training resumes to the same weights, bit for bit; rewards move the policy."""

import os
import re
import shutil
import signal
import time
from dataclasses import asdict

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from helpers.columns import described
from helpers.small_trainer import sudoku_trainer
from unmask.analysis.scores import RUN, collect
from unmask.tasks import Grade
from unmask.training import checkpoint, validation
from unmask.training.checkpoint import Checkpoint
from unmask.training.optimizer import clip, schedule
from unmask.training.preemption import Preempted


def test_killed_and_resumed_equals_uninterrupted(job, finish):
    whole, process = job("whole")
    finish(process)
    killed, process = job("killed")
    for _ in range(2):  # kill it twice, each time after a new checkpoint
        before = set(killed.glob("checkpoints/step-*"))
        while not set(killed.glob("checkpoints/step-*")) - before and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (killed / "manifest.json").exists()
        _, process = job("killed")
    assert "resumed after update" in finish(process)
    one, other = (load_file(out / "adapter" / "adapter_model.safetensors") for out in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(value.any() for name, value in one.items() if "lora_B" in name)  # B of an untrained adapter is zero
    assert not (killed / "checkpoints").exists()
    table = [
        [line.split(",")[:8] for line in (out / "metrics.csv").read_text().splitlines()] for out in (whole, killed)
    ]
    assert table[0] == table[1]


def test_checkpoints_of_other_work_are_not_resumed_from(config, policy, sudoku, tmp_path, capsys):
    sudoku_trainer(config, policy, sudoku, tmp_path, identity="x").train()
    assert list(tmp_path.glob("step-*"))
    fresh = sudoku_trainer(config, policy, sudoku, tmp_path, identity="y")
    assert fresh._resume({}, None) == (0, None, None)
    assert "written with other settings" in capsys.readouterr().out


def test_checkpoints_of_other_code_are_not_resumed_from(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checkpoint, "CHECKPOINT_FORMAT", 1)
    Checkpoint(1, {"a": torch.zeros(1)}, {}, {}, [], {}, {}).save(tmp_path, "x")
    monkeypatch.undo()
    assert Checkpoint.newest(tmp_path, "x") is None
    assert "written by another version of the code" in capsys.readouterr().out
    assert list(tmp_path.glob("step-*"))


def test_the_micro_batch_size_does_not_change_the_gradient(config, make_policy, sudoku, tmp_path):
    norms = {}
    for rows in (3, 64):
        training = {"micro_batch_size": rows, "lora_dropout": 0.0}  # draws of dropout follow the parts
        one = sudoku_trainer(config, make_policy(), sudoku, tmp_path / str(rows), **training)
        norms[rows] = [row["grad_norm"] for row in one.train()]
    assert min(norms[64]) > 0
    assert norms[3] == pytest.approx(norms[64], rel=1e-4)


def test_schedule_warms_up_and_falls_to_a_tenth(grid):
    settings = next(run for run in grid.runs.values() if run.trains).training
    cosine = settings.model_copy(update={"schedule": "cosine", "warmup_ratio": 0.1})
    factors = [schedule(update, 100, cosine) for update in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[10] == 1.0
    assert factors[-1] == pytest.approx(0.1, abs=0.01)
    assert schedule(99, 100, settings.model_copy(update={"schedule": "constant", "warmup_ratio": 0.0})) == 1.0


def test_the_head_is_clipped_on_its_own():
    """A large gradient of the head leaves that of the adapter as it is, and the other way round."""
    for large, small in (("head.w", "lora_A"), ("lora_A", "head.w")):
        parameters = {name: torch.nn.Parameter(torch.zeros(4)) for name in (large, small)}
        parameters[large].grad, parameters[small].grad = torch.full((4,), 50.0), torch.full((4,), 0.25)
        norms = clip(parameters, 1.0)
        assert sorted(norms.values()) == [0.5, 100.0]
        assert norms["head_grad_norm"] == (100.0 if large == "head.w" else 0.5)
        assert parameters[small].grad.tolist() == [0.25] * 4
        assert parameters[large].grad.norm().item() == pytest.approx(1.0)
    assert clip({"lora_A": parameters["lora_A"]}, 1.0).keys() == {"grad_norm"}


def test_a_base_outside_its_gate_fails_and_says_what_to_change(policy, sudoku, grid):
    from unmask.common.errors import InputError
    from unmask.common.seeding import Seeds
    from unmask.training.pretrain import TaskData, pretrain

    model = next(spec for spec in grid.models.values() if spec.task == "sudoku")
    settings = model.settings.pretraining["sudoku"].model_copy(update={"gate": [0.9, 1.0]})
    splits = sudoku.splits()
    lesson = TaskData(sudoku, splits["train"], splits["validation"], settings)
    with pytest.raises(InputError, match=r"smoke: not a usable base for sudoku.*gate \[0\.9, 1\.0\]"):
        pretrain(policy, [lesson], [24], 8, Seeds(("t",)), "smoke")


@pytest.mark.parametrize("method", ["sft", "d1", "diffu_grpo", "coupled_grpo", "diffpo", "dmpo"])
def test_every_method_trains_through_its_checkpoints(config, policy, sudoku, tmp_path, method):
    config["scales"]["smoke"]["methods"][method] = {"group_size": 4, "updates_per_buffer": 2}
    metrics = sudoku_trainer(config, policy, sudoku, tmp_path, method).train()
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    assert len(list(tmp_path.glob("step-*"))) == 2
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in metrics)
    names = {re.sub("^weight_from_.*", "weight_from_X", name) for row in metrics for name in row}
    assert names <= described("metrics.csv"), "describe it in docs/columns.md"


def test_a_damaged_checkpoint_is_removed_and_the_one_before_it_used(config, policy, sudoku, tmp_path, capsys):
    one = sudoku_trainer(config, policy, sudoku, tmp_path)
    one.train()
    newest = sorted(tmp_path.glob("step-*"))[-1]
    (newest / "parameters.safetensors").write_bytes(b"torn")
    assert Checkpoint.newest(tmp_path, "x").step == 3
    assert "damaged" in capsys.readouterr().out
    assert not newest.exists()


def test_the_first_checkpoint_replaces_those_of_other_work(config, policy, sudoku, tmp_path):
    sudoku_trainer(config, policy, sudoku, tmp_path, identity="old").train()
    Checkpoint(1, {"a": torch.zeros(1)}, {}, {}, [], {}, {}).save(tmp_path, "new")
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-000001"]


def test_metrics_count_the_computing_and_the_entropy_of_rollouts(config, policy, sudoku, tmp_path):
    from unmask.training.flop_counter import FlopCounter

    metrics = sudoku_trainer(config, policy, sudoku, tmp_path).train()
    flops = [row["flops"] for row in metrics]
    rollout, update = flops[0] - (flops[1] - flops[0]), flops[1] - flops[0]
    assert flops == pytest.approx([rollout + update, rollout + 2 * update, *flops[2:3], flops[2] + update])
    assert 0 < metrics[0]["entropy"] < len(policy.tokenizer)
    ids = torch.zeros((2, 5), dtype=torch.long)
    weights = sum(p.numel() for p in policy.model.model.layers.parameters()) + policy.model.config.hidden_size
    trained = sum(p.numel() for p in policy.trainable().values())
    counted = FlopCounter(policy.model, done=7.0)
    with torch.no_grad():
        policy.model.hidden_states(ids)
    assert counted.flops == 7 + 10 * 2 * weights
    policy.model.hidden_states(ids)
    assert counted.flops == 7 + 10 * (6 * weights + 2 * trained)


def test_the_computing_goes_on_from_a_checkpoint(config, make_policy, sudoku, tmp_path):
    whole = sudoku_trainer(config, make_policy(), sudoku, tmp_path).train()
    shutil.rmtree(tmp_path / "step-000004")
    again = sudoku_trainer(config, make_policy(), sudoku, tmp_path).train()  # resumes after the third update
    assert [row["flops"] for row in again] == [row["flops"] for row in whole]


def planted(monkeypatch, scores):
    """Validation that answers with these scores, one per evaluation."""
    left = iter(scores)
    monkeypatch.setattr(validation, "accuracies", lambda *_: {"validation": next(left), "validation_strict": 0.0})


def test_the_latest_of_the_best_moments_on_validation_is_kept(config, make_policy, sudoku, tmp_path, monkeypatch):
    planted(monkeypatch, [0.1, 0.5, 0.5, 0.2])
    saved = []
    evaluate = validation.BestCheckpoint.evaluate
    monkeypatch.setattr(
        validation.BestCheckpoint,
        "evaluate",
        lambda self, *given: (evaluate(self, *given), saved.append(dict(self.best)))[0],
    )
    whole = sudoku_trainer(
        config, make_policy(), sudoku, tmp_path / "a", buffers=4, validate_every=1, updates_per_buffer=2
    )
    kept = [row["validation"] for row in whole.train()]
    assert kept == [None, 0.1, None, 0.5, None, 0.5, None, 0.2]
    state = Checkpoint.newest(tmp_path / "a", "x")
    best = state.best
    assert best.keys() == whole.policy.trainable().keys()
    assert all(torch.equal(value, whole.policy.trainable()[name]) for name, value in best.items())
    # Of the third evaluation, not the second.
    assert all(torch.equal(value, saved[2][name]) for name, value in best.items())
    assert not all(torch.equal(value, saved[1][name]) for name, value in best.items())
    assert not all(torch.equal(value, state.parameters[name]) for name, value in best.items())  # the last moment


def test_with_nothing_right_at_any_look_the_last_moment_is_kept(config, policy, sudoku, tmp_path, monkeypatch):
    planted(monkeypatch, [0.0, 0.0, 0.0])
    settings = {"buffers": 3, "validate_every": 1, "updates_per_buffer": 1}
    one = sudoku_trainer(config, policy, sudoku, tmp_path, **settings)
    one.train()
    last = Checkpoint.newest(tmp_path, "x").parameters
    assert all(torch.equal(value, last[name]) for name, value in policy.trainable().items())


@pytest.mark.parametrize("scores", [[0.5, 0.3, 0.4], [0.5, 0.3, 0.5], [0.0, 0.0, 0.0]])
def test_what_was_best_outlives_a_kill(config, make_policy, sudoku, tmp_path, monkeypatch, scores):
    settings = {"buffers": 3, "validate_every": 1, "updates_per_buffer": 1}
    planted(monkeypatch, scores)
    whole = sudoku_trainer(config, make_policy(), sudoku, tmp_path / "whole", **settings)
    whole.train()
    planted(monkeypatch, scores[:1])
    killed = sudoku_trainer(config, make_policy(), sudoku, tmp_path / "killed", **settings)
    killed.asked_to_stop = lambda: True
    with pytest.raises(Preempted):
        killed.train()
    planted(monkeypatch, scores[1:])
    again = sudoku_trainer(config, make_policy(), sudoku, tmp_path / "killed", **settings)
    assert [row["validation"] for row in again.train()] == scores
    theirs = whole.policy.trainable()
    assert all(torch.equal(value, theirs[name]) for name, value in again.policy.trainable().items())


def test_validation_is_the_accuracy_that_tables_report(config, policy, sudoku, tmp_path, monkeypatch):
    """Right cells of all cells, as `scores.collect` has it, and not the mean of the boards' shares."""
    one = sudoku_trainer(config, policy, sudoku, tmp_path)
    examples = sudoku.splits()["validation"][:3]
    grades = [Grade("1", 1 / 4, 0.0, points=4), Grade("2", 1.0, 1.0, points=8), Grade(None, 0.0, 0.0, points=10)]
    monkeypatch.setattr(validation, "respond", lambda *given, **_: (None, [e["answer"] for e in given[2]]))
    monkeypatch.setattr(validation, "grade_response", lambda *given: grades[examples.index(given[2])])
    found = validation.accuracies(policy, sudoku, examples, one._rollout_settings(), one.seeds)
    assert found == {"validation": 9 / 22, "validation_strict": 1 / 3}
    label = dict.fromkeys(RUN, "x")
    samples = pd.DataFrame([label | {"nfe": 1, "tokens": 1, "seconds": 1.0} | asdict(grade) for grade in grades])
    assert found["validation"] == pytest.approx(collect([samples])["published"].item())
    monkeypatch.undo()
    found = validation.accuracies(policy, sudoku, examples, one._rollout_settings(), one.seeds)
    assert all(0.0 <= value <= 1.0 for value in found.values())


def test_right_cells_decide_where_no_board_is_right(config, policy, sudoku, tmp_path, monkeypatch):
    cells = iter([3, 5, 4])
    shown = {}

    def evaluate(*_):
        right = next(cells)
        shown[right] = {name: p.detach().clone() for name, p in policy.trainable().items()}
        return {"validation": right / 40, "validation_strict": 0.0}

    monkeypatch.setattr(validation, "accuracies", evaluate)
    settings = {"buffers": 3, "validate_every": 1, "updates_per_buffer": 1}
    sudoku_trainer(config, policy, sudoku, tmp_path, **settings).train()
    assert all(torch.equal(value, shown[5][name]) for name, value in policy.trainable().items())
