"""dLLM's Qwen models against transformers' own Qwen with a full mask; tied head, mask token, and what is refused.

That their logits are those of a plain forward pass is in test_published_forward.py.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.planted_checkpoints import write_adapter
from helpers.published_checkpoints import change_json, load, plain_logits, write_checkpoint
from unmask.common.errors import InputError
from unmask.models.adapters import projections
from unmask.models.checkpoint_formats import Layout
from unmask.models.loading import check_checkpoint
from unmask.models.policy import Policy

pytestmark = pytest.mark.usefixtures("no_network")
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
qwens = pytest.mark.parametrize("kind", ["qwen2", "qwen3"])


def stock(folder, weights):
    """The model of transformers that the checkpoint was made from, causal unless it is given a mask."""
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    values = json.loads((folder / "config.json").read_text())
    kinds = {"a2d-qwen2": (Qwen2Config, Qwen2ForCausalLM), "a2d-qwen3": (Qwen3Config, Qwen3ForCausalLM)}
    config, model = kinds[values.pop("model_type")]
    made = model(config.from_dict(values | {"pad_token_id": None}))
    made.load_state_dict(weights)
    return made.eval()


def change(folder, name, value):
    """Another tensor of this name in the checkpoint; None removes it."""
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    place = places.get(name, "model-00002-of-00002.safetensors")
    tensors = load_file(folder / place) | {name: value}
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, folder / place, {"format": "pt"})


# --- what is computed -------------------------------------------------------------------------------------------------


@qwens
def test_logits_are_those_of_transformers_qwen_with_a_full_mask(kind, ids, tmp_path):
    weights = write_checkpoint(tmp_path, kind)
    theirs, ours = stock(tmp_path, weights), load(tmp_path)
    padding = torch.tensor([0, 2, 5])
    seen = torch.arange(17) >= padding[:, None]
    with torch.no_grad():
        full = theirs(ids, attention_mask=torch.ones(3, 1, 17, 17, dtype=torch.bool)).logits
        torch.testing.assert_close(ours(ids), full, atol=1e-5, rtol=1e-5)
        assert (theirs(ids).logits - full).abs().mean() > 0.1  # a causal mask would not pass
        positions = (torch.arange(17) - padding[:, None]).clamp(min=0)
        mask = seen[:, None, None].expand(-1, -1, 17, -1)
        padded = theirs(ids, attention_mask=mask, position_ids=positions).logits
        torch.testing.assert_close(ours(ids, seen)[seen], padded[seen], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "sizes", "parameters", "body", "names"),
    [
        # 28 layers of 11 weights, 24 of 12; embedding, last norm and head
        (
            "qwen3",
            {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
             "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936},
            596_049_920, 440_467_456, 28 * 11 + 3,
        ),
        (
            "qwen2",
            {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
             "intermediate_size": 4864, "vocab_size": 151936},
            494_032_768, 357_898_112, 24 * 12 + 3,
        ),
    ],
)  # fmt: skip
def test_the_published_sizes_make_the_published_number_of_parameters(kind, sizes, parameters, body, names, tmp_path):
    """0.6 B of which 0.44 B are not embedding, and 0.49 B of which 0.36 B are not, as their model cards say."""
    write_checkpoint(tmp_path, kind)
    change_json(tmp_path / "config.json", **sizes)
    model = Layout.read(tmp_path).empty_model()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert parameters - model.model.embed_tokens.weight.numel() == body
    assert len(model.state_dict()) == names


# --- the tied head ----------------------------------------------------------------------------------------------------


@qwens
def test_a_tied_head_may_be_stored_or_not(kind, ids, tmp_path):
    weights = write_checkpoint(tmp_path, kind)
    stored = load(tmp_path)(ids)
    change(tmp_path, HEAD, None)
    check_checkpoint(tmp_path)
    model = load(tmp_path)
    assert torch.equal(model(ids), stored)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum(p.numel() for p in model.parameters()) == sum(w.numel() for n, w in weights.items() if n != HEAD)


@qwens
def test_a_stored_head_that_is_not_the_embedding_must_be_asked_for(kind, ids, tmp_path):
    weights = write_checkpoint(tmp_path, kind)
    weights[HEAD] = weights[HEAD].flip(0).contiguous()
    change(tmp_path, HEAD, weights[HEAD])
    with pytest.raises(InputError, match=r"tie_word_embeddings is true, but the stored lm_head\.weight is not"):
        check_checkpoint(tmp_path)
    change_json(tmp_path / "config.json", tie_word_embeddings=False)
    check_checkpoint(tmp_path)
    wanted = torch.stack([plain_logits(kind, weights, row) for row in ids])
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path)(ids), wanted, atol=1e-5, rtol=1e-5)


@qwens
def test_training_all_weights_keeps_the_head_tied(kind, ids, tmp_path):
    write_checkpoint(tmp_path / "base", kind)
    policy = Policy.load(tmp_path / "base", device="cpu")
    policy.make_trainable(rank=0, alpha=8, dropout=0.0, targets=["q_proj"], seed=1)
    trained = policy.trainable()
    assert EMBEDDING in trained
    assert HEAD not in trained
    before = trained[EMBEDDING].detach().clone()
    policy.model(ids).logsumexp(-1).sum().backward()
    torch.optim.SGD(trained.values(), lr=1e-3).step()
    assert not torch.equal(trained[EMBEDDING], before)
    policy.save(tmp_path / "whole")
    assert HEAD not in load_file(tmp_path / "whole/model.safetensors")
    again = Policy.load(tmp_path / "base", tmp_path / "whole", device="cpu").model
    with torch.no_grad():
        assert torch.equal(again(ids), policy.model(ids))
    assert again.lm_head.weight is again.model.embed_tokens.weight


@qwens
def test_an_adapter_of_a_tied_head_is_refused(kind, tmp_path):
    write_checkpoint(tmp_path / "base", kind)
    write_adapter(tmp_path / "adapter", tmp_path / "base", kind, head=True)
    assert "lm_head" not in projections(load(tmp_path / "base"))
    with pytest.raises(InputError, match=r"2 unexpected \(base_model\.model\.lm_head\.lora_A\.weight"):
        Policy.load(tmp_path / "base", tmp_path / "adapter", device="cpu")


# --- the tokenizer ----------------------------------------------------------------------------------------------------


@qwens
@pytest.mark.parametrize("name", ["<|mask|>", {"__type": "AddedToken", "content": "<|mask|>", "special": True}])
def test_the_mask_token_is_the_tokenizers(kind, name, tmp_path):
    write_checkpoint(tmp_path, kind)
    (tmp_path / "modeling_qwen3.py").write_text("raise SystemExit('remote code ran')")
    change_json(tmp_path / "tokenizer_config.json", mask_token=name)
    assert "mask_token_id" not in json.loads((tmp_path / "config.json").read_text())
    assert Layout.read(tmp_path).config.mask_token_id == 60
    policy = Policy.load(tmp_path, device="cpu")
    assert policy.tokenizer.mask_token_id == 60
    assert policy.end_tokens == {"<|im_end|>"}


def test_without_tokenizer_json_it_is_among_the_added_tokens(tmp_path):
    """As in Dream's files."""
    write_checkpoint(tmp_path, "qwen3")
    (tmp_path / "tokenizer.json").unlink()
    change_json(tmp_path / "tokenizer_config.json", added_tokens_decoder={"60": {"content": "<|mask|>"}})
    assert Layout.read(tmp_path).config.mask_token_id == 60


# --- what is refused --------------------------------------------------------------------------------------------------


def config(**changes):
    return lambda folder: change_json(folder / "config.json", **changes)


def tensor(name, value):
    return lambda folder: change(folder, name, value)


NORM = "model.layers.1.self_attn.q_norm.weight"
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 30.0}
WRONG = {
    "no norm": (tensor(NORM, None), rf"1 missing \({NORM}\)"),
    "shape": (tensor(NORM, torch.ones(6)), rf"1 of another shape \({NORM} \[6\] instead of \[10\]\)"),
    "bias": (tensor("model.layers.0.self_attn.q_proj.bias", torch.ones(40)), r"1 unexpected \(.*q_proj\.bias\)"),
    "no ends": (lambda f: [change(f, name, None) for name in (EMBEDDING, HEAD)], rf"1 missing \({EMBEDDING}\)"),
    "window": (config(use_sliding_window=True), r"use_sliding_window True \(only False\)"),
    "biases": (config(attention_bias=True), r"attention_bias True \(only False\)"),
    "scaling": (config(rope_scaling=YARN), "unsupported architecture: rope_scaling"),
    "rope": (config(rope_parameters=YARN), "unsupported architecture: rope_type 'yarn'"),
    "no mask token": (
        lambda folder: change_json(folder / "tokenizer_config.json", mask_token=None),
        r"mask_token None is not among the added tokens, .* add mask_token_id to config\.json",
    ),
    "other mask token": (config(mask_token_id=61), "mask_token_id 61, which is not the tokenizer's mask token"),
    "block diffusion": (config(model_type="sdar"), "model_type 'sdar' is not supported"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_checkpoint_that_does_not_fit_is_one_error(fault, tmp_path):
    write_checkpoint(tmp_path, "qwen3")
    damage, message = WRONG[fault]
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        check_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)
