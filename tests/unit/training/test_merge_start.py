"""Training on top of another run's adapter, `merge_start`: what is held, what is trained and what is saved."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from helpers.published_checkpoints import write_checkpoint
from unmask import methods
from unmask.config.grid.expand import expand
from unmask.models.policy import Policy
from unmask.training.preemption import Preempted
from unmask.training.trainer import Trainer

FIRST = {"rank": 2, "alpha": 8, "dropout": 0.5, "targets": ["q_proj", "k_proj", "v_proj"], "seed": 1}
SECOND = {"rank": 4, "alpha": 2, "dropout": 0.5, "targets": ["q_proj", "v_proj", "up_proj"], "seed": 2}
IDS = torch.arange(2, 24).view(2, 11)


def moved(policy, seed):
    """The policy with other values in what it trains."""
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(policy.trainable().items())):
            parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(100 * seed + number))
    return policy


@pytest.fixture
def start(tmp_path):
    """A base model and a trained adapter on disk; returns the logits of the two together."""

    def make(dtype="float32"):
        write_checkpoint(tmp_path / "base", "llada")
        policy = Policy.load(tmp_path / "base", device="cpu", dtype=dtype)
        policy.make_trainable(**FIRST)
        moved(policy, 1).save(tmp_path / "first")
        return logits(policy)

    return make


def on_top(tmp_path, dtype="float32", **changes):
    policy = Policy.load(tmp_path / "base", tmp_path / "first", device="cpu", dtype=dtype)
    policy.make_trainable(**SECOND | changes, merge_start=True)
    return policy


def logits(policy):
    policy.model.eval()
    with torch.no_grad():
        return policy.model(IDS).float()


def test_it_begins_as_the_policy_that_it_starts_from_and_trains_another_adapter(start, tmp_path):
    before = start()
    held = load_file(tmp_path / "first" / "adapter_model.safetensors")
    policy = on_top(tmp_path)
    assert torch.equal(logits(policy), before)
    assert {name.rpartition(".lora_")[2] for name in policy.trainable()} == {"A.fresh.weight", "B.fresh.weight"}
    assert len(policy.trainable()) == 2 * 3 * policy.model.config.num_hidden_layers
    moved(policy, 2)
    assert not torch.allclose(logits(policy), before, atol=1e-3)
    with policy.reference():
        assert torch.equal(logits(policy), before)
    first = {name: p for name, p in policy.model.named_parameters() if ".default." in name}
    assert len(first) == len(held)
    for name, value in first.items():
        assert torch.equal(value, held[f"base_model.model.{name}".replace(".default", "")])


def test_the_adapter_it_starts_from_has_no_dropout(start, tmp_path):
    before = start()
    policy = on_top(tmp_path)
    policy.model.train()
    with torch.no_grad():
        assert torch.equal(policy.model(IDS), before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_saved_holds_both_and_loads_on_the_base_model_alone(start, tmp_path, dtype):
    start(dtype)
    policy = moved(on_top(tmp_path, dtype), 2)
    policy.save(tmp_path / "joined")
    config = json.loads((tmp_path / "joined" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 6)
    assert config["target_modules"] == ["k_proj", "q_proj", "up_proj", "v_proj"]
    loaded = Policy.load(tmp_path / "base", tmp_path / "joined", device="cpu", dtype=dtype)
    wrong = (logits(loaded) - logits(policy)).abs().mean()
    assert wrong < (1e-6 if dtype == "float32" else 0.02)
    bare = logits(Policy.load(tmp_path / "base", device="cpu", dtype=dtype))
    assert (bare - logits(policy)).abs().mean() > 0.1


def test_stock_peft_reads_what_is_saved(start, tmp_path):
    from peft import PeftModel

    start()
    policy = moved(on_top(tmp_path), 2)
    policy.save(tmp_path / "joined")
    base = Policy.load(tmp_path / "base", device="cpu", dtype="float32").model
    with torch.no_grad():
        found = PeftModel.from_pretrained(base, tmp_path / "joined").eval()(IDS)
    assert_close(found, logits(policy), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampling_uses_both(start, tmp_path, dtype):
    start(dtype)
    policy = moved(on_top(tmp_path, dtype), 2)
    plain = logits(policy)
    with policy.merged():
        assert_close(logits(policy), plain, atol=1e-5, rtol=0)
    assert torch.equal(logits(policy), plain)


def test_training_every_weight_folds_the_adapter_in(start, tmp_path):
    before = start()
    policy = on_top(tmp_path, rank=0)
    assert policy.adapter is None
    assert_close(logits(policy), before, atol=1e-5, rtol=0)
    assert len(policy.trainable()) == len(list(policy.model.parameters()))
    moved(policy, 2).save(tmp_path / "whole")
    assert torch.equal(logits(Policy.load(tmp_path / "base", tmp_path / "whole", device="cpu")), logits(policy))


def test_a_run_resumes_to_the_same_adapter(config, sudoku, policy, tmp_path):
    """With the first adapter as it was, whenever the run is stopped."""
    config["scales"]["smoke"]["training"] |= {"lora_dropout": 0.1, "merge_start": True, "rollout_dropout": True}
    config["scales"]["smoke"]["training"] |= {"validate_every": 0}
    config["scales"]["smoke"]["methods"]["dmpo_sft"] = {"baseline": "none"}  # learns though no response is right
    run = expand(config).runs["dmpo_sft/sudoku/default/seed-0"]
    policy.model.save_pretrained(tmp_path / "base")
    policy.tokenizer.save_pretrained(tmp_path / "base")
    policy.make_trainable(**FIRST)
    moved(policy, 1).save(tmp_path / "first")

    def trainer(name, stop):
        loaded = Policy.load(tmp_path / "base", tmp_path / "first", device="cpu")
        method = methods.load(run.algorithm, run.method_settings)
        examples = sudoku.splits()["train"]
        one = Trainer(run, loaded, method, sudoku, examples, tmp_path / name, "", checkpoint_minutes=0)
        one.asked_to_stop = lambda: stop
        return one

    whole = trainer("whole", False)
    whole.train()
    with pytest.raises(Preempted):
        trainer("stopped", True).train()
    again = trainer("stopped", False)
    metrics = again.train()
    assert [row["step"] for row in metrics] == [1, 2, 3, 4]
    # A fresh adapter does nothing yet, with dropout or without; on some processors sums round differently.
    assert metrics[0]["kl"] == pytest.approx(0, abs=1e-4)
    for name, value in whole.policy.trainable().items():
        assert value.any()
        assert torch.equal(value, again.policy.trainable()[name])
    whole.policy.save(tmp_path / "joined")
    Policy.load(tmp_path / "base", tmp_path / "joined", device="cpu")


def test_an_adapter_cannot_hold_what_every_weight_learnt(config):
    from unmask.config.errors import ConfigError

    config["methods"]["d1"]["merge_start"] = True
    config["scales"]["smoke"]["methods"]["sft"]["lora_rank"] = 0
    with pytest.raises(ConfigError, match=r"methods.d1.lora_rank: sft trains every weight, which no adapter"):
        expand(config)
    config["methods"]["d1"]["lora_rank"] = 0
    config["methods"]["dmpo_sft"] |= {"merge_start": True, "lora_rank": 0}
    assert expand(config).runs


def test_shapes_may_differ_where_the_adapter_is_merged(config):
    config["methods"]["d1"] |= {"merge_start": True, "lora_alpha": 3, "lora_targets": ["q_proj"]}
    assert expand(config).runs["d1/sudoku/default/seed-0"].training.lora_targets == ["q_proj"]
