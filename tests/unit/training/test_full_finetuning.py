"""coupled-GRPO with every weight trained, as its recipe has it: reference, checkpoints, evaluation."""

import json

import pandas as pd
import pytest
import torch

from unmask import methods
from unmask.config.grid.expand import expand
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.shards import ShardStore
from unmask.models.policy import Policy
from unmask.training.preemption import Preempted
from unmask.training.trainer import Trainer


@pytest.fixture
def whole(config, sudoku, tmp_path, on_disk, monkeypatch):
    """Starts a run of 6 updates with the recipe's settings; its reward counts blanks, so that there is one to learn."""
    config["scales"]["smoke"]["training"] |= {"lora_rank": 0, "buffers": 3, "updates_per_buffer": 2}
    config["scales"]["smoke"]["training"] |= {"group_size": 4, "micro_batch_size": 64, "validate_every": 0}
    released = {"mask_rate": "micro_batch", "mask_index": "micro_step", "micro_batch_rows": 2, "kl_penalty": 0.5}
    config["methods"]["coupled_grpo"] |= released | {"reference_sync": 2, "reference_mix": 0.6, "learning_rate": 1e-3}
    del config["methods"]["coupled_grpo"]["group_size"], config["methods"]["coupled_grpo"]["updates_per_buffer"]
    config["experiments"]["main"]["methods"] = ["coupled_grpo"]
    grid = expand(config)
    run = grid.runs["coupled_grpo/sudoku/default/seed-0"]
    monkeypatch.setattr(
        type(sudoku), "reward", lambda self, response, example: {"a": float(sum(map(ord, response)) % 7)}
    )

    def start(name, stop_after=None):
        policy = Policy.load(on_disk / "weights", device="cpu", **run.numbers)
        method = methods.load(run.algorithm, run.method_settings)
        one = Trainer(run, policy, method, sudoku, sudoku.splits()["train"], tmp_path / name, "", checkpoint_minutes=0)
        one.asked_to_stop = lambda: stop_after is not None and len(one.metrics) >= stop_after
        return one

    return start, run, grid.evaluations["papers"]


def test_every_weight_is_trained_next_to_a_reference_that_moves(whole):
    start, _, _ = whole
    one = start("a")
    first = {name: p.detach().clone() for name, p in one.policy.model.named_parameters()}
    metrics = one.train()
    kl = [row["kl"] for row in metrics[::2]]
    assert kl[0] == 0
    assert all(abs(value) > 0 for value in kl[1:])  # 0.4 of the old reference is left
    now = dict(one.policy.model.named_parameters())
    assert one.policy.snapshot.keys() == now.keys()
    assert all(not torch.equal(now[name], value) for name, value in first.items())
    for name, value in one.policy.snapshot.items():
        assert not torch.equal(value, first[name])
        assert not torch.equal(value, now[name])


def test_a_stopped_run_resumes_to_the_same_weights_and_reference(whole):
    start, _, _ = whole
    one = start("whole")
    one.train()
    with pytest.raises(Preempted):
        start("stopped", stop_after=3).train()
    again = start("stopped")
    again.train()
    for name, value in one.policy.trainable().items():
        assert torch.equal(value, again.policy.trainable()[name])
        assert torch.equal(one.policy.snapshot[name], again.policy.snapshot[name])


def test_what_is_saved_is_evaluated(whole, sudoku, tmp_path, on_disk):
    start, run, evaluation = whole
    one = start("a")
    one.train()
    one.policy.save(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "config.json").read_text())["model_type"] == "llada"
    loaded = Policy.load(on_disk / "weights", tmp_path / "adapter", device="cpu", **run.numbers)
    for name, value in one.policy.model.named_parameters():
        assert torch.equal(value, dict(loaded.model.named_parameters())[name])
    rows = evaluate(loaded, sudoku, sudoku.splits()["test"][:4], run, evaluation, ShardStore(tmp_path / "parts", "x"))
    assert len(pd.DataFrame(rows)) == 4 * len(evaluation.lengths) * len(evaluation.samplers)
