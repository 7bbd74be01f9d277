"""Policies of published checkpoints: prompts, rollouts, training, adapters and examinations."""

import json

import pytest
import torch
from safetensors.torch import load_file

from helpers.published_checkpoints import kinds, load, write_checkpoint, write_puzzle_checkpoint
from unmask import methods
from unmask.common.errors import InputError
from unmask.common.seeding import Seeds
from unmask.config.grid.expand import expand
from unmask.config.schema.models import LocalModel
from unmask.config.schema.samplers import TopK
from unmask.config.specs import ModelSpec
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.shards import ShardStore
from unmask.models.policy import Policy
from unmask.rl.generation import roll_out
from unmask.rl.likelihoods import mean_field, token_log_probs
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.settings import DecodingSettings
from unmask.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("no_network")
WHOLE = [{"words": "w3"}, {"words": "w4 w5 w6"}]
WORDS = {"llada": WHOLE, "dream": [{"words": "the"}, {"words": "a the b"}], "qwen2": WHOLE, "qwen3": WHOLE}
MODEL_TYPES = {"llada": "llada", "dream": "Dream", "qwen2": "a2d-qwen2", "qwen3": "a2d-qwen3"}
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "o_proj", "gate_proj", "down_proj"], "seed": 1}


@kinds
def test_the_tokenizer_needs_no_code_of_the_checkpoint(kind, tmp_path):
    write_checkpoint(tmp_path, kind)
    (tmp_path / "tokenization_dream.py").write_text("raise SystemExit('remote code ran')")
    policy = Policy.load(tmp_path, device="cpu")
    qwen = ("<|im_start|>w7<|im_end|><|im_start|><think></think>", [61, 7, 59, 61, 62, 63])
    text, wanted = {"llada": ("<|user|>w7<|bot|>", [61, 7, 62]), "dream": ("<|user|>the<|bot|>", [61, 28, 62])}.get(
        kind, qwen
    )
    tokens = policy.prompt_ids([{"role": "user", "content": "the" if kind == "dream" else "w7"}], "")
    assert tokens == wanted
    assert policy.texts(torch.tensor([tokens]))[0].replace(" ", "") == text
    assert policy.eot == {"llada": 1, "dream": 59, "qwen2": 59, "qwen3": 59}[kind]


@kinds
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rollouts_and_likelihoods_run(kind, dtype, tmp_path):
    write_checkpoint(tmp_path, kind)
    policy = Policy.load(tmp_path, device="cpu", dtype=dtype)
    policy.make_trainable(**LORA)
    top1 = TopK(tokens_per_step=1, score="confidence")
    decoding = DecodingSettings(8, 4, top1, temperature=1.0)
    settings = RolloutSettings(group_size=2, decoding=decoding, micro_batch_size=4, dropout=False)
    rollouts = roll_out(policy, Words(), WORDS[kind], settings, Seeds((0,)))
    assert rollouts.response.shape == (4, 8)
    assert not (rollouts.response == 60).any()
    found = mean_field(policy.model, *rollouts.inputs, torch.zeros_like(rollouts.prompt_mask))
    found.sum().backward()
    gradients = [p.grad for p in policy.trainable().values()]
    assert {g.dtype for g in gradients} == {torch.float32}
    assert any(g.abs().max() > 0 for g in gradients)
    # What the sampler saw at its last step gives the probability that it recorded.
    last = rollouts.unmask_step.argmax(1)
    ended = torch.nn.functional.one_hot(last, 8).bool() & (rollouts.unmask_step < rollouts.nfe[:, None])
    noisy = rollouts.response.masked_fill(ended, 60)
    with torch.no_grad():
        again = token_log_probs(policy.model, rollouts.prompt, rollouts.prompt_mask, noisy, rollouts.response, ended)
    exactness = {"float32": 1e-5, "bfloat16": 0.1}[dtype]
    torch.testing.assert_close(again[ended], rollouts.log_prob_t1[ended], atol=exactness, rtol=exactness)


class Words:
    """A task that poses words and likes long answers."""

    prefill = ""

    def messages(self, example):
        return [{"role": "user", "content": example["words"]}]

    def reward(self, text, example):
        return {"length": float(len(text))}

    def grade(self, text, example):
        from unmask.tasks import Grade

        return Grade(answer=text, published=0.0, strict=0.0)


@kinds
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_loads_with_peft_on_the_published_weights(kind, dtype, ids, tmp_path):
    from peft import PeftModel

    write_checkpoint(tmp_path / "base", kind)
    policy = Policy.load(tmp_path / "base", device="cpu", dtype=dtype)
    policy.make_trainable(**LORA)
    assert len(policy.trainable()) == 3 * len(LORA["targets"]) * 2
    with torch.no_grad():
        before = policy.model(ids)
        generator = torch.Generator().manual_seed(0)
        for parameter in policy.trainable().values():
            parameter.normal_(std=0.1, generator=generator)
        moved = policy.model(ids)
        assert (moved - before).abs().mean() > 0.2  # twice what rounding may add below
        policy.save(tmp_path / "adapter")
        assert torch.equal(
            Policy.load(tmp_path / "base", tmp_path / "adapter", dtype=dtype, device="cpu").model(ids), moved
        )
        base = load(tmp_path / "base", getattr(torch, dtype))
        loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        exactness = {"float32": 0.0, "bfloat16": 0.1}[dtype]  # PEFT by itself multiplies LoRA in fp32
        torch.testing.assert_close(loaded.get_base_model()(ids), moved, rtol=exactness, atol=exactness)
    assert {str(v.dtype) for v in load_file(tmp_path / "adapter/adapter_model.safetensors").values()} == {
        "torch.float32"
    }


@kinds
def test_a_checkpoint_written_by_us_loads_again(kind, ids, tmp_path):
    write_checkpoint(tmp_path / "base", kind)
    policy = Policy.load(tmp_path / "base", device="cpu")
    policy.make_trainable(**LORA | {"rank": 0})
    with torch.no_grad():
        policy.model.model.norm.weight.add_(0.5)
        policy.save(tmp_path / "whole")
        again = Policy.load(tmp_path / "base", tmp_path / "whole", device="cpu").model
        assert torch.equal(again(ids), policy.model(ids))
    assert type(again) is type(policy.model)
    assert json.loads((tmp_path / "whole/config.json").read_text())["model_type"] == MODEL_TYPES[kind]


@kinds
def test_a_run_is_trained_and_examined_on_a_published_checkpoint(kind, config, sudoku, tmp_path):
    write_puzzle_checkpoint(tmp_path / "base", kind)
    config["models"]["mine"] = {"source": "local", "path": str(tmp_path / "base")}
    config["scales"]["smoke"]["model"] = "mine"
    config["scales"]["smoke"]["training"] |= {"dtype": "bfloat16", "buffers": 1}
    config["methods"]["dmpo"]["baseline"] = "none"  # of random weights no response is better than another
    grid = expand(config)
    run = grid.runs["dmpo/sudoku/default/seed-1"]
    assert run.model == "mine"
    assert grid.models["mine"] == ModelSpec("mine", "local", LocalModel(source="local", path=str(tmp_path / "base")))
    assert grid.model_data("mine") == []
    policy = Policy.load(tmp_path / "base", device="cpu", dtype=run.training.dtype)
    method, splits = methods.load(run.algorithm, run.method_settings), sudoku.splits()
    metrics = Trainer(
        run, policy, method, sudoku, splits["train"], tmp_path / "checkpoints", "", held_back=splits["validation"]
    ).train()
    assert len(metrics) == 2
    assert all(row["grad_norm"] > 0 for row in metrics)
    policy.save(tmp_path / "adapter")
    again = Policy.load(tmp_path / "base", tmp_path / "adapter", device="cpu", dtype="bfloat16")
    one, other = (
        evaluate(p, sudoku, splits["test"], run, grid.evaluations["papers"], ShardStore(tmp_path / name, "x"))
        for name, p in (("one", policy), ("other", again))
    )
    assert [row["completion"] for row in one] == [row["completion"] for row in other]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rollouts_see_all_that_an_adapter_has_learnt(dtype, ids, tmp_path):
    """Added to weights in bfloat16, steps of this size would mostly be rounded away."""
    write_checkpoint(tmp_path, "llada")
    policy = Policy.load(tmp_path, device="cpu", dtype=dtype)
    policy.make_trainable(**LORA)
    with torch.no_grad():
        for parameter in policy.trainable().values():
            parameter.add_(0.003)
        with policy.merged():
            merged = policy.model(ids)
        torch.testing.assert_close(merged, policy.model(ids), atol=1e-5, rtol=1e-5)


def test_all_weights_are_not_trained_in_bfloat16(tmp_path):
    write_checkpoint(tmp_path, "llada")
    with pytest.raises(InputError, match="set dtype: float32"):
        Policy.load(tmp_path, device="cpu", dtype="bfloat16").make_trainable(**LORA | {"rank": 0})
