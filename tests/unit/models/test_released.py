"""Released checkpoints compute what the released code computes, and damaged or foreign ones are one clear error."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.planted_checkpoints import added, write_adapter, write_full
from helpers.published_checkpoints import TIED, change_json, kinds, plain_logits, write_checkpoint
from unmask.common.errors import InputError
from unmask.models.policy import Policy
from unmask.models.released import check_released, kind_of, published_name

pytestmark = pytest.mark.usefixtures("no_network")
ADAPTER, TENSORS, LLADA = "adapter_config.json", "adapter_model.safetensors", "GSAI-ML/LLaDA-8B-Instruct"
Q = "base_model.model.model.transformer.blocks.1.q_proj.lora_A.weight"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "head"), [("llada", False), ("llada", True), ("dream", False), ("qwen2", False), ("qwen3", False)]
)
def test_an_adapter_of_the_released_code_gives_that_codes_logits(kind, head, dtype, ids, tmp_path):
    weights = write_checkpoint(tmp_path / "base", kind)
    matrices = write_adapter(tmp_path / "adapter", tmp_path / "base", kind, head, dtype)
    rounded = {name: tuple(m.to(dtype).float() for m in pair) for name, pair in matrices.items()}
    changed = added(weights, rounded)
    wanted = torch.stack([plain_logits(kind, changed, row) for row in ids])
    unchanged = torch.stack([plain_logits(kind, weights, row) for row in ids])
    assert (wanted - unchanged).abs().mean() > 0.1  # an adapter that is not loaded would not pass

    assert check_released(tmp_path / "adapter", "adapter", tmp_path / "base") == sum(
        m.numel() for pair in matrices.values() for m in pair
    )
    policy = Policy.load(tmp_path / "base", tmp_path / "adapter", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(policy.model(ids), wanted, atol=1e-5, rtol=1e-5)
        hidden = policy.model.hidden_states(ids)
        one = policy.model.target_log_probs(hidden[0], ids[0])
        torch.testing.assert_close(one, policy.model.log_probs(hidden[0]).gather(1, ids[0][:, None])[:, 0])
        with policy.merged():
            torch.testing.assert_close(policy.model(ids), wanted, atol=1e-5, rtol=1e-5)


@kinds
@pytest.mark.parametrize("files", [1, 3])
def test_all_weights_give_the_released_codes_logits(kind, files, ids, tmp_path):
    write_checkpoint(tmp_path / "base", kind)
    weights = write_full(tmp_path / "full", tmp_path / "base", kind, files)
    wanted = torch.stack([plain_logits(kind, weights, row) for row in ids])
    head = "lm_head.weight" if kind in TIED else None  # counted with the embedding
    wanted_size = sum(value.numel() for name, value in weights.items() if name != head)
    assert check_released(tmp_path / "full", "full", tmp_path / "base") == wanted_size
    policy = Policy.load(tmp_path / "base", tmp_path / "full", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(policy.model(ids), wanted, atol=1e-5, rtol=1e-5)


PLACES = [LLADA, "/data/LLaDA-8B-Instruct/", "models--GSAI-ML--LLaDA-8B-Instruct/snapshots/01", LLADA.lower()]


@pytest.mark.parametrize("place", PLACES)
def test_a_base_model_is_known_by_its_name_in_any_place(place):
    assert published_name(place) == LLADA
    assert published_name("/data/LLaDA-8B-Base") == "GSAI-ML/LLaDA-8B-Base"
    assert published_name("out/sft_merged") is published_name(None) is None


def settings(**changes):
    return lambda folder: change_json(folder / "adapter" / ADAPTER, **changes)


def tensors(change):
    def damage(folder):
        old = load_file(folder / "adapter" / TENSORS)
        save_file(change(old) or old, folder / "adapter" / TENSORS, {"format": "pt"})

    return damage


def config(**changes):
    return lambda folder: change_json(folder / "full/config.json", **changes)


def pickled(which, old, new):
    def damage(folder):
        (folder / which / new).unlink()
        (folder / which / old).write_bytes(b"\x80\x04")

    return damage


def shortened(file):
    def damage(folder):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-7])

    return damage


def without(name):
    def change(old):
        del old[name]

    return change


def with_value(name, value):
    def change(old):
        old[name] = value(old).clone()  # safetensors stores no tensor twice

    return change


def only(which):
    return lambda folder: [file.unlink() for file in (folder / which).iterdir()]


CONVERT = r"python -c 'import torch; .*weights_only=True"
# what is wrong -> which checkpoint, the damage, what the error has to name, what it has to advise
FAULTS = {
    "pickled adapter": ("adapter", pickled("adapter", "adapter_model.bin", TENSORS), r"adapter_model\.bin", CONVERT),
    "pickled model": ("full", pickled("full", "weights.pt", "model.safetensors"), r"weights\.pt", CONVERT),
    "adapter weights missing": (
        "adapter", lambda folder: (folder / "adapter" / TENSORS).unlink(), TENSORS, "convert it"),
    "empty folder": ("adapter", only("adapter"), "neither adapter_config.json nor config.json", "set subfolder"),
    "other kind": ("full", lambda folder: None, "kind is 'full'", "set kind: adapter"),
    "base that was not trained from": (
        "adapter", settings(base_model_name_or_path="GSAI-ML/LLaDA-8B-Base"), "base_model_name_or_path", "evaluate it"),
    "modules_to_save": ("adapter", settings(modules_to_save=["wte"]), r"modules_to_save \['wte'\]", "merge"),
    "DoRA": ("adapter", settings(use_dora=True), "use_dora True", "merge"),
    "ranks by module": ("adapter", settings(rank_pattern={"q_proj": 8}), "rank_pattern", "merge"),
    "other rank": ("adapter", settings(r=8), r"lora_A\.weight \[4, 24\] instead of \[8, 24\]", "this base model"),
    "tensor missing": ("adapter", tensors(without(Q)), r"missing \(.*q_proj\.lora_A", "copy it again"),
    "tensor unknown": (
        "adapter", tensors(with_value("base_model.model.model.transformer.wpe.lora_A.weight", lambda old: old[Q])),
        r"unexpected \(.*wpe\.lora_A", "copy it again"),
    "LoRA on the embedding": (
        "adapter", tensors(with_value("base_model.model.model.transformer.wte.lora_embedding_A", lambda old: old[Q])),
        r"unexpected \(.*wte\.lora_embedding_A", "this base model"),
    "not finite": ("adapter", tensors(with_value(Q, lambda old: old[Q] * torch.nan)), r"NaN .*q_proj", "copy it again"),
    "quantised": ("adapter", tensors(with_value(Q, lambda old: old[Q].to(torch.int8))), r"unexpected \(.*q_", "copy"),
    "truncated adapter": ("adapter", shortened(f"adapter/{TENSORS}"), TENSORS, "copy the adapter again"),
    "settings that are no JSON": (
        "adapter", lambda folder: (folder / "adapter" / ADAPTER).write_text("{"), ADAPTER, "copy the complete"),
    "truncated model": ("full", shortened("full/model.safetensors"), r"model\.safetensors", "copy it again"),
    "other architecture": ("full", config(alibi=True), "alibi True", "unsupported architecture"),
    "other vocabulary": ("full", config(embedding_size=128), "vocab_size 128 instead of 64", "base model that it was"),
    "other family": ("full", config(model_type="bert"), "model_type 'bert'", "use a checkpoint with"),
}  # fmt: skip


@pytest.fixture
def released(tmp_path):
    """A base model, and an adapter and all weights trained from it."""
    write_checkpoint(tmp_path / "base", "llada")
    write_adapter(tmp_path / "adapter", tmp_path / "base")
    write_full(tmp_path / "full", tmp_path / "base")
    return tmp_path


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_one_error_with_key_and_fix(fault, released):
    which, damage, named, advised = FAULTS[fault]
    damage(released)
    folder = released / ("adapter" if fault == "other kind" else which)
    with pytest.raises(InputError, match=named) as caught:
        check_released(folder, which, released / "base", LLADA)
    assert str(caught.value).startswith(str(folder))
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match=advised):
        check_released(folder, which, released / "base", LLADA)


def test_undamaged_they_pass(released):
    for which in ("adapter", "full"):
        assert kind_of(released / which) == which
        assert check_released(released / which, which, released / "base", LLADA) > 0


def test_an_adapter_of_llada_is_refused_on_dream(released):
    write_checkpoint(released / "dream", "dream")
    with pytest.raises(InputError, match=r"is GSAI-ML/LLaDA-8B-Instruct, but the base model given is Dream-org/"):
        check_released(released / "adapter", "adapter", released / "dream", "Dream-org/Dream-v0-Instruct-7B")
    with pytest.raises(InputError, match="unexpected"):
        check_released(released / "adapter", "adapter", released / "dream")
    with pytest.raises(InputError, match="model_type 'llada', but the base model's is 'Dream'"):
        check_released(released / "full", "full", released / "dream")


def test_a_name_that_tells_nothing_is_said(released, capsys):
    change_json(released / "adapter" / ADAPTER, base_model_name_or_path="out/checkpoint-7")
    check_released(released / "adapter", "adapter", released / "base", LLADA)
    assert "base_model_name_or_path is 'out/checkpoint-7'; whether that is GSAI-ML" in capsys.readouterr().out


def test_nothing_of_a_checkpoint_is_run(released):
    for which in ("adapter", "full"):
        (released / which / "modeling_llada.py").write_text("raise SystemExit('remote code ran')")
        file = released / which / (ADAPTER if which == "adapter" else "config.json")
        file.write_text(json.dumps(json.loads(file.read_text()) | {"auto_mapping": None}))
        check_released(released / which, which, released / "base", LLADA)
        Policy.load(released / "base", released / which, device="cpu")
