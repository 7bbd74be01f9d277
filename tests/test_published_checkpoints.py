"""Checkpoints in the published layouts of LLaDA and Dream: loaded natively, trained, examined."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from published_checkpoints import change_json, plain_logits, write_checkpoint, write_puzzle_checkpoint
from safetensors.torch import load_file

from unmask import methods
from unmask.evaluate import evaluate
from unmask.files import InputError
from unmask.grid import expand
from unmask.kept import Kept
from unmask.likelihood import mean_field, token_log_probs
from unmask.models.dream import DreamForMaskedDiffusion
from unmask.models.fetch import checkpoint_folder
from unmask.models.layouts import Layout
from unmask.models.policy import Policy
from unmask.models.published import load_model
from unmask.rollout import RolloutSettings, roll_out
from unmask.samplers.decode import decode
from unmask.seal import SUMS, checksums
from unmask.seeding import Seeds
from unmask.spec import ModelSpec
from unmask.trainer import Trainer

ROOT = Path(__file__).parents[1]
SHARD = "model-00002-of-00002.safetensors"
WORDS = {"llada": [{"words": "w3"}, {"words": "w4 w5 w6"}], "dream": [{"words": "the"}, {"words": "a the b"}]}
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["q_proj", "o_proj", "gate_proj", "down_proj"], "seed": 1}
kinds = pytest.mark.parametrize("kind", ["llada", "dream"])


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.set_num_threads(1)


@pytest.fixture
def ids():
    return torch.randint(2, 59, (3, 17), generator=torch.Generator().manual_seed(0))


def load(folder, dtype=torch.float32):
    return load_model(folder, "cpu", dtype)


# --- what is computed -------------------------------------------------------------------------------------------------


@kinds
def test_logits_are_those_of_a_plain_forward(kind, ids, tmp_path):
    weights = write_checkpoint(tmp_path, kind)
    wanted = torch.stack([plain_logits(kind, weights, row) for row in ids])
    with torch.no_grad():
        found = load(tmp_path)(ids)
    assert wanted.std() > 0.5
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@kinds
def test_bfloat16_is_the_same_up_to_rounding(kind, tmp_path):
    """Against the same arithmetic in bfloat16; over so many positions, angles in bfloat16 would show."""
    weights = write_checkpoint(tmp_path, kind, torch.bfloat16)
    ids = torch.randint(2, 59, (1, 127), generator=torch.Generator().manual_seed(0))
    rounded = torch.stack([plain_logits(kind, weights, row) for row in ids]).float()
    exact = {name: value.float() for name, value in weights.items()}
    exact = torch.stack([plain_logits(kind, exact, row) for row in ids])
    with torch.no_grad():
        found = load(tmp_path, torch.bfloat16)(ids)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).std() < 1.2 * (rounded - exact).std()


@kinds
def test_weights_in_bfloat16_load_as_float32_exactly(kind, tmp_path):
    weights = write_checkpoint(tmp_path, kind, torch.bfloat16)
    head = [value for name, value in weights.items() if name in ("model.transformer.ff_out.weight", "lm_head.weight")]
    model = load(tmp_path)
    assert torch.equal(model.lm_head.weight, head[0].float())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@kinds
def test_columns_are_the_states_that_predict_them(kind, ids, tmp_path):
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    with torch.no_grad():
        whole = model.hidden_states(ids)
        assert whole.shape == (3, 17, 24)
        for columns in (slice(0, 1), slice(0, 5), slice(1, 2), slice(5, 9), slice(9, None), slice(-3, None)):
            torch.testing.assert_close(model.hidden_states(ids, None, columns), whole[:, columns])


@kinds
def test_columns_may_differ_from_row_to_row(kind, ids, tmp_path):
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    columns = torch.tensor([[3, 4, 16], [0, 1, 9], [5, 2, 2]])
    with torch.no_grad():
        whole = model.hidden_states(ids)
        torch.testing.assert_close(model.hidden_states(ids, None, columns), whole[torch.arange(3)[:, None], columns])


@kinds
@pytest.mark.parametrize("first", [0, 9])
def test_a_window_on_stored_keys_and_values_gives_the_same_states(kind, first, ids, tmp_path):
    """But for what is not in the window; where nothing has changed since, that is the same too."""
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    mask = torch.arange(17) >= torch.tensor([[0], [2], [5]])
    store = model.empty_store(3, 17)
    window = torch.arange(first, first + 6).clamp(max=16).expand(3, -1)
    with torch.no_grad():
        whole = model.hidden_states(ids, mask, store=store)
        found = model.hidden_states(ids, mask, slice(0, 4), store=store, window=window)
        torch.testing.assert_close(found, whole[:, first : first + 4])
        chosen = torch.tensor([[1, 0], [2, 3], [3, 3]])
        found = model.hidden_states(ids, mask, chosen, store=store, window=window)
        torch.testing.assert_close(found, whole[torch.arange(3)[:, None], first + chosen])
        # A changed token inside the window is seen by all of it.
        other = ids.clone()
        other[:, first + 2] = 58
        found = model.hidden_states(other, mask, slice(0, 4), store=store, window=window)
        assert (found - whole[:, first : first + 4]).abs().amax((0, 2)).min() > 1e-3


@kinds
def test_caches_are_exact_where_nothing_changes_within_a_block(kind, tmp_path):
    """Blocks of one token: each has one pass, and that fills the cache."""
    write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    prompt = torch.randint(2, 59, (3, 7), generator=torch.Generator().manual_seed(1))
    settings = {"length": 6, "block_length": 1, "temperature": 0.0, "eot": 1}
    settings |= {"sampler": {"rule": "top_k", "tokens_per_step": 1, "score": "confidence"}}
    none, prefix, dual = (
        decode(model, prompt, prompt > 0, cache=cache, generator=torch.Generator(), **settings).response
        for cache in ("none", "prefix", "dual")
    )
    assert torch.equal(none, prefix)
    assert torch.equal(none, dual)


@kinds
def test_left_padding_does_not_change_a_row(kind, ids, tmp_path):
    """But for Dream's first token, which nothing stands before."""
    weights = write_checkpoint(tmp_path, kind)
    padded = torch.cat((torch.full((3, 6), 1), ids), 1)
    mask = (torch.arange(23) >= 6).expand(3, -1)
    with torch.no_grad():
        found = load(tmp_path)(padded, mask)[:, 7:]
    wanted = torch.stack([plain_logits(kind, weights, row) for row in ids])[:, 1:]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@kinds
def test_without_a_mask_padding_is_read_as_the_released_codes_do(kind, ids, tmp_path):
    weights = write_checkpoint(tmp_path, kind)
    model = load(tmp_path)
    prompt, response = torch.cat((torch.full((3, 6), 1), ids[:, :9]), 1), ids[:, 9:]
    scored = torch.ones_like(response, dtype=torch.bool)
    noisy = torch.full_like(response, 60)
    with torch.no_grad():
        found = token_log_probs(model, prompt, torch.ones_like(prompt, dtype=torch.bool), noisy, response, scored)
        masked = token_log_probs(model, prompt, prompt != 1, noisy, response, scored)
    logits = torch.stack([plain_logits(kind, weights, row) for row in torch.cat((prompt, noisy), 1)])[:, 15:]
    logits[..., 60] = -torch.inf
    torch.testing.assert_close(found, logits.log_softmax(-1).gather(2, response[..., None])[..., 0])
    assert (found - masked).abs().max() > 0.01


def test_dream_predicts_a_token_one_position_before_it(ids, tmp_path):
    """Only through the shift: the unshifted logits of the body are another column's."""
    write_checkpoint(tmp_path, "dream")
    model = load(tmp_path)
    assert isinstance(model, DreamForMaskedDiffusion)
    with torch.no_grad():
        body = super(DreamForMaskedDiffusion, model).hidden_states(ids)
        torch.testing.assert_close(model.hidden_states(ids)[:, 1:], body[:, :-1])
    assert model.model.layers[0].self_attn.q_proj.bias is not None
    assert model.model.layers[0].self_attn.o_proj.bias is None


# --- the policy around it ---------------------------------------------------------------------------------------------


@kinds
def test_the_tokenizer_needs_no_code_of_the_checkpoint(kind, tmp_path):
    write_checkpoint(tmp_path, kind)
    (tmp_path / "tokenization_dream.py").write_text("raise SystemExit('remote code ran')")
    policy = Policy.load(tmp_path, device="cpu")
    word = {"llada": "w7", "dream": "the"}[kind]
    text = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": word}], tokenize=False, add_generation_prompt=True
    )
    assert text == f"<|user|>{word}<|bot|>"
    tokens = policy.prompt_ids([{"role": "user", "content": word}], "")
    assert tokens == {"llada": [61, 7, 62], "dream": [61, 28, 62]}[kind]
    assert policy.texts(torch.tensor([tokens]))[0].replace(" ", "") == text
    assert policy.eot == {"llada": 1, "dream": 59}[kind]


@kinds
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rollouts_and_likelihoods_run(kind, dtype, tmp_path):
    write_checkpoint(tmp_path, kind)
    policy = Policy.load(tmp_path, device="cpu", dtype=dtype)
    policy.make_trainable(**LORA)
    settings = RolloutSettings(
        group_size=2, length=8, block_length=4, sampler={"rule": "top_k", "tokens_per_step": 1, "score": "confidence"},
        temperature=1.0, rows_per_forward=4, dropout=False, mask_padding=True,
    )  # fmt: skip
    rollouts = roll_out(policy, Words(), WORDS[kind], settings, Seeds((0,)))
    assert rollouts.response.shape == (4, 8)
    assert not (rollouts.response == 60).any()
    found = mean_field(policy.model, *rollouts.inputs, torch.zeros_like(rollouts.prompt_mask))
    found.sum().backward()
    gradients = [p.grad for p in policy.trainable().values()]
    assert {g.dtype for g in gradients} == {torch.float32}
    assert any(g.abs().max() > 0 for g in gradients)
    # What the sampler saw at its last step gives the probability that it recorded.
    last = rollouts.step.argmax(1)
    ended = torch.nn.functional.one_hot(last, 8).bool() & (rollouts.step < rollouts.nfe[:, None])
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
        for parameter in policy.trainable().values():
            parameter.add_(0.1)
        moved = policy.model(ids)
        assert not torch.equal(moved, before)
        policy.save(tmp_path / "adapter")
        assert torch.equal(
            Policy.load(tmp_path / "base", tmp_path / "adapter", dtype=dtype, device="cpu").model(ids), moved
        )
        base = load(tmp_path / "base", getattr(torch, dtype))
        loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        assert torch.equal(loaded.get_base_model()(ids), moved)
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
    assert (
        json.loads((tmp_path / "whole/config.json").read_text())["model_type"]
        == {"llada": "llada", "dream": "Dream"}[kind]
    )


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
    assert grid.models["mine"] == ModelSpec("mine", "local", {"path": str(tmp_path / "base")})
    assert grid.model_data("mine") == []
    policy = Policy.load(tmp_path / "base", device="cpu", dtype=run.training["dtype"])
    method, splits = methods.load(run.algorithm, run.method_settings), sudoku.splits()
    metrics = Trainer(
        run, policy, method, sudoku, splits["train"], tmp_path / "checkpoints", "", held_back=splits["validation"]
    ).train()
    assert len(metrics) == 2
    assert all(row["grad_norm"] > 0 for row in metrics)
    policy.save(tmp_path / "adapter")
    again = Policy.load(tmp_path / "base", tmp_path / "adapter", device="cpu", dtype="bfloat16")
    one, other = (
        evaluate(p, sudoku, splits["test"], run, grid.evaluations["papers"], Kept(tmp_path / name, "x"))
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


# --- the published sizes ----------------------------------------------------------------------------------------------


def test_the_8b_config_makes_the_published_weights(tmp_path):
    write_checkpoint(tmp_path, "llada")
    change_json(tmp_path / "config.json", d_model=4096, n_heads=32, n_kv_heads=32, n_layers=32, mlp_hidden_size=12288,
                embedding_size=126464, vocab_size=126464, mask_token_id=126336, eos_token_id=126081)  # fmt: skip
    layout = Layout.read(tmp_path)
    model = layout.empty_model()
    assert sum(p.numel() for p in model.parameters()) == 8_015_581_184
    names = {layout.stored_name(name) for name in model.state_dict()}
    assert len(names) == 291
    assert "model.transformer.blocks.31.ff_out.weight" in names
    assert model.config.head_dim == 128


def test_the_7b_config_makes_the_published_weights(tmp_path):
    write_checkpoint(tmp_path, "dream")
    change_json(tmp_path / "config.json", hidden_size=3584, num_attention_heads=28, num_key_value_heads=4,
                num_hidden_layers=28, intermediate_size=18944, vocab_size=152064, mask_token_id=151666)  # fmt: skip
    model = Layout.read(tmp_path).empty_model()
    assert sum(p.numel() for p in model.parameters()) == 7_615_616_512
    assert len(model.state_dict()) == 339


# --- the step ---------------------------------------------------------------------------------------------------------


def prepare(tmp_path, source, **settings):
    """Run prepare_model.py; returns its exit code and what it said."""
    ModelSpec("some-model", source, settings).write(tmp_path / "spec.yaml")
    command = [sys.executable, ROOT / "src/prepare_model.py", "spec.yaml", "--weights", "weights", "--data"]
    done = subprocess.run(
        [*command, "--manifest", "manifest.json"],
        capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_local_checkpoint_is_checked_linked_and_noted(tmp_path, ids):
    write_checkpoint(tmp_path / "there", "llada")
    (tmp_path / "there/modeling_llada.py").write_text("")
    (tmp_path / "there/pytorch_model.bin").write_bytes(b"")
    code, said = prepare(tmp_path, "local", path="there")
    assert code == 0, said
    links = sorted(file for file in (tmp_path / "weights").iterdir() if file.name != SUMS)
    assert all(file.is_symlink() and file.resolve() == tmp_path / "there" / file.name for file in links)
    assert not {file.suffix for file in links} & {".py", ".bin"}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["origin"] == {"source": "local", "path": "there"}
    assert manifest["parameters"] == sum(p.numel() for p in load(tmp_path / "there").parameters())
    assert manifest["files"] == checksums(tmp_path / "weights")
    sum_of = subprocess.run(["sha256sum", tmp_path / "there" / SHARD], capture_output=True, text=True, check=True)
    assert manifest["files"][SHARD] == sum_of.stdout.split()[0]
    assert torch.equal(load(tmp_path / "weights")(ids), load(tmp_path / "there")(ids))


def test_a_checkpoint_in_the_hub_cache_is_found_offline(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "hub/hub/models--some--model"
    write_checkpoint(place / "snapshots" / commit, "dream")
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    code, said = prepare(tmp_path, "hub", repository="some/model", revision=commit)
    assert code == 0, said
    assert json.loads((tmp_path / "manifest.json").read_text())["origin"]["revision"] == commit
    assert load(tmp_path / "weights").config.model_type == "Dream"


def test_a_checkpoint_that_is_not_in_the_cache_is_one_line(tmp_path):
    code, said = prepare(tmp_path, "hub", repository="some/model", revision="1" * 40)
    assert code == 1
    assert said.startswith("prepare_model: models.some-model: some/model at 1111111 cannot be had (")
    assert "HF_HUB_OFFLINE is set. Where there is a network, run `hf download some/model --revision 1111" in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("revision", ["to be pinned", "main", "0123456"])
def test_a_revision_that_is_no_commit_is_refused(revision):
    with pytest.raises(
        InputError, match=r"models\.m\.revision: .* choose one of https://huggingface\.co/some/model/commits"
    ):
        checkpoint_folder("m", "hub", {"repository": "some/model", "revision": revision})


def test_a_local_path_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"models\.m\.path: .*/file is no folder"):
        checkpoint_folder("m", "local", {"path": str(tmp_path / "file")})
