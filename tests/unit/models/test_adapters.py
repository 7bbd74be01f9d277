"""Adapters from elsewhere: released module names, and every fault that would silently leave the base model."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.published_checkpoints import BLOCK_NAMES, kinds, write_checkpoint
from unmask.common.errors import InputError
from unmask.models.policy import Policy

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ALL, "seed": 1}
FILE = "adapter_model.safetensors"
Q = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def trained(tmp_path):
    """Makes a base model and an adapter of ours on it; returns the policy. Folders are base and adapter."""

    def make(kind="llada", dtype="float32", **lora):
        write_checkpoint(tmp_path / "base", kind)
        policy = Policy.load(tmp_path / "base", device="cpu", dtype=dtype)
        policy.make_trainable(**LORA | lora)
        with torch.no_grad():
            for name, parameter in sorted(policy.trainable().items()):
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
        policy.save(tmp_path / "adapter")
        return policy

    return make


def rewrite(folder, change):
    """The adapter with other tensors and no SHA256SUMS, as from elsewhere."""
    tensors = load_file(folder / FILE)
    tensors = change(tensors) or tensors
    save_file(tensors, folder / FILE, {"format": "pt"})
    (folder / "SHA256SUMS").unlink(missing_ok=True)


def settings(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    (folder / "SHA256SUMS").unlink(missing_ok=True)


def released(name):
    """The name of a tensor of ours in an adapter that PEFT saved on the released LLaDA code's model."""
    for ours, theirs in BLOCK_NAMES.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name.replace("model.model.layers", "model.model.transformer.blocks")


def load(tmp_path, dtype="float32"):
    return Policy.load(tmp_path / "base", tmp_path / "adapter", device="cpu", dtype=dtype)


@pytest.mark.parametrize("suffix", [".weight", ".default.weight"])
def test_an_adapter_in_the_released_codes_names_is_the_same_policy(trained, ids, tmp_path, capsys, suffix):
    policy = trained()
    with torch.no_grad():
        wanted = policy.model(ids)
    rewrite(tmp_path / "adapter", lambda old: {released(k).replace(".weight", suffix): v for k, v in old.items()})
    names = load_file(tmp_path / "adapter" / FILE).keys()
    assert f"base_model.model.model.transformer.blocks.0.ff_out.lora_B{suffix}" in names
    settings(tmp_path / "adapter", target_modules=sorted(BLOCK_NAMES[n] for n in BLOCK_NAMES))
    with torch.no_grad():
        assert torch.equal(load(tmp_path).model(ids), wanted)
    assert "no SHA256SUMS, so treated as trained elsewhere" in capsys.readouterr().out


def test_d1s_list_of_targets_reaches_four_matrices_of_llada(trained, ids, tmp_path):
    """PEFT finds only q, k, v and up_proj under these names, and saves the whole list in the configuration."""
    policy = trained(targets=["q_proj", "k_proj", "v_proj", "up_proj"])
    rewrite(tmp_path / "adapter", lambda old: {released(name): value for name, value in old.items()})
    settings(tmp_path / "adapter", target_modules=ALL)
    with torch.no_grad():
        assert torch.equal(load(tmp_path).model(ids), policy.model(ids))


@kinds
def test_a_round_trip_changes_no_bit(kind, trained, tmp_path):
    trained(kind)
    load(tmp_path).save(tmp_path / "again")
    for name in (FILE, "adapter_config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "adapter" / name).read_bytes()


@kinds
def test_a_bfloat16_adapter_is_cast_and_said_to_be(kind, trained, ids, tmp_path, capsys):
    trained(kind)
    rewrite(tmp_path / "adapter", lambda old: {name: value.bfloat16() for name, value in old.items()})
    policy = load(tmp_path)
    assert "casting bfloat16 to float32" in capsys.readouterr().out
    stored = load_file(tmp_path / "adapter" / FILE)
    for name, p in policy.model.named_parameters():
        if "lora_" in name:
            assert torch.equal(p, stored[f"base_model.model.{name}".replace(".default", "")].float())


def test_rank_stabilised_lora_is_scaled_by_the_root_of_the_rank(trained, ids, tmp_path):
    trained()
    settings(tmp_path / "adapter", use_rslora=True)
    layer = load(tmp_path).model.model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == 8 / 4**0.5


def test_an_adapter_of_some_layers_loads(trained, ids, tmp_path):
    trained()
    few = {"model.layers.0.self_attn.q_proj", "model.layers.2.mlp.up_proj"}
    rewrite(tmp_path / "adapter", lambda old: {k: v for k, v in old.items() if any(f".{name}." in k for name in few)})
    settings(tmp_path / "adapter", target_modules=sorted(few))
    found = {name.partition(".lora_")[0] for name, _ in load(tmp_path).model.named_parameters() if "lora_" in name}
    assert found == few


def drop(old):
    del old[Q]


def nan(old):
    old[Q][0, 0] = torch.nan


def infinite(old):
    old[Q][0, 0] = -torch.inf


def other_rank(old):
    old[Q] = old[Q][:3].clone()


def other_width(old):
    old[Q] = old[Q][:, :-1].clone()


def whole_numbers(old):
    old[Q] = old[Q].to(torch.int8)


def another_layer(old):
    old[Q.replace("layers.1", "layers.3")] = old[Q].clone()


def head(old):
    old["base_model.model.lm_head.lora_A.weight"] = torch.zeros(4, 24)


def twice(old):
    old[Q.removeprefix("base_model.model.")] = old[Q].clone()


def saved_module(old):
    old["base_model.model.lm_head.weight"] = torch.zeros(64, 24)


def other_names(old):
    return {name.replace("self_attn", "attention"): value for name, value in old.items()}


TENSORS = {
    drop: r"1 missing \(model\.layers\.1\.self_attn\.q_proj\.lora_A\)",
    nan: r"1 with NaN or infinite values \(.*layers\.1\.self_attn\.q_proj\.lora_A\.weight\)",
    infinite: "1 with NaN or infinite values",
    other_rank: r"1 of another shape \(.*lora_A\.weight \[3, 24\] instead of \[4, 24\]\)",
    other_width: r"1 of another shape \(.*lora_A\.weight \[4, 23\] instead of \[4, 24\]\)",
    whole_numbers: rf"1 unexpected \({Q}\)",
    another_layer: r"1 unexpected \(.*layers\.3\.self_attn\.q_proj\.lora_A\.weight\)",
    head: r"1 unexpected \(base_model\.model\.lm_head\.lora_A\.weight\)",
    twice: "1 unexpected",
    saved_module: r"1 unexpected \(base_model\.model\.lm_head\.weight\)",
    other_names: "24 missing .*24 unexpected",
    lambda old: {"x": torch.zeros(1)}: "1 unexpected",
}


@pytest.mark.parametrize("change", TENSORS)
def test_tensors_that_are_not_those_of_the_model_are_one_error(change, trained, tmp_path):
    trained()
    rewrite(tmp_path / "adapter", change)
    with pytest.raises(InputError, match=TENSORS[change]) as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'adapter' / FILE}: does not fit this base model")


SETTINGS = {
    "modules_to_save": ["lm_head"],
    "bias": "all",
    "use_dora": True,
    "lora_bias": True,
    "rank_pattern": {"q_proj": 8},
    "alpha_pattern": {"q_proj": 8},
    "layers_to_transform": [0],
    "layer_replication": [[0, 2]],
    "fan_in_fan_out": True,
    "init_lora_weights": "pissa",
    "peft_type": "IA3",
    "r": 0,
    "target_modules": None,
    "a_switch_of_a_later_peft": True,
}


@pytest.mark.parametrize("key", SETTINGS)
def test_a_kind_of_adapter_that_is_not_supported_is_refused(key, trained, tmp_path):
    trained()
    settings(tmp_path / "adapter", **{key: SETTINGS[key]})
    with pytest.raises(InputError, match=rf"adapter_config\.json: unsupported adapter: {key} "):
        load(tmp_path)


def test_a_config_with_another_rank_than_its_tensors_is_refused(trained, tmp_path):
    trained()
    settings(tmp_path / "adapter", r=8)
    with pytest.raises(InputError, match=r"42 of another shape .*\[4, 24\] instead of \[8, 24\]"):
        load(tmp_path)


def test_an_adapter_of_llada_does_not_load_on_dream(trained, tmp_path):
    trained("llada")
    rewrite(tmp_path / "adapter", lambda old: {released(name): value for name, value in old.items()})
    write_checkpoint(tmp_path / "dream", "dream")
    with pytest.raises(InputError, match="42 unexpected"):
        Policy.load(tmp_path / "dream", tmp_path / "adapter", device="cpu")


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 40])
def test_a_file_that_is_no_safetensors_is_refused(content, trained, tmp_path):
    trained()
    (tmp_path / "adapter" / FILE).write_bytes(content)
    (tmp_path / "adapter/SHA256SUMS").unlink()
    with pytest.raises(InputError, match=r"adapter_model\.safetensors: cannot be read"):
        load(tmp_path)
