"""A checkpoint in a published layout that is damaged, incomplete or of another kind is refused with one error."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.published_checkpoints import change_json, write_checkpoint
from unmask.common.errors import InputError
from unmask.models.loading import check_checkpoint
from unmask.models.policy import Policy

SHARD = "model-00002-of-00002.safetensors"
pytestmark = pytest.mark.usefixtures("no_network")


def drop(name):
    return lambda folder: rewrite(folder, name, lambda tensors: tensors.pop(name))


def add(name):
    return lambda folder: rewrite(folder, None, lambda tensors: tensors.update({name: torch.zeros(2)}))


def reshape(name):
    return lambda folder: rewrite(folder, name, lambda tensors: tensors.update({name: tensors[name][1:].clone()}))


def quantise(name):
    return lambda folder: rewrite(folder, name, lambda tensors: tensors.update({name: tensors[name].char()}))


def rewrite(folder, name, change):
    """Change the tensors of the shard that holds `name`, or of the second one."""
    places = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    tensors = load_file(folder / places.get(name, SHARD))
    change(tensors)
    save_file(tensors, folder / places.get(name, SHARD))


def cut(folder):
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data[:-100])


def pickles(folder):
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    (folder / "pytorch_model-00001-of-00002.bin").write_bytes(b"")


def config(**changes):
    return lambda folder: change_json(folder / "config.json", **changes)


def tokenizer(**changes):
    return lambda folder: change_json(folder / "tokenizer_config.json", **changes)


def index(**changes):
    return lambda folder: change_json(folder / "model.safetensors.index.json", **changes)


def remove(name):
    return lambda folder: (folder / name).unlink()


WQ = "model.transformer.blocks.2.q_proj.weight"
WRONG = {
    "missing key": (drop(WQ), rf"1 missing \({WQ}\)"),
    "unexpected key": (add("model.transformer.wpe.weight"), r"1 unexpected \(model\.transformer\.wpe\.weight\)"),
    "shape": (reshape(WQ), rf"1 of another shape \({WQ} \[23, 24\] instead of \[24, 24\]\)"),
    "quantised": (quantise(WQ), rf"1 quantised \({WQ} I8\)"),
    "other depth": (config(n_layers=4), r"9 missing \(model\.transformer\.blocks\.3\.attn_norm\.weight, .*, …\)"),
    "cut shard": (cut, rf"{SHARD}: damaged or truncated"),
    "no shard": (remove(SHARD), rf"missing {SHARD}, named in model\.safetensors\.index\.json"),
    "outside": (index(weight_map={WQ: "../x.safetensors"}), "no weight_map from weights to file names"),
    "no weights": (lambda folder: [f.unlink() for f in folder.glob("*.safetensors*")], "has neither .* nor "),
    "pickles": (pickles, r"pickle files \(pytorch_model-00001-of-00002\.bin\).*convert them to safetensors"),
    "model type": (
        config(model_type="llama"),
        "model_type 'llama' is not supported; use a checkpoint with one of llada, Dream",
    ),
    "no config": (remove("config.json"), r"config\.json: cannot be read"),
    "broken config": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json: cannot be read"),
    "config key": (config(n_heads=None), r"config\.json: missing n_heads; use"),
    "config value": (config(d_model="24"), r"config\.json: .*hidden_size.*expected int"),
    "architecture": (config(block_type="sequential", alibi=True), r"alibi True \(only False\)"),
    "mask": (config(mask_token_id=64), "mask_token_id 64 is not below vocab_size 64"),
    "mask token": (config(mask_token_id=63), "mask_token_id 63, which is not the tokenizer's mask token"),
    "template": (tokenizer(chat_template=None), "no chat template"),
    "end of text": (tokenizer(eos_token=None), "no eos_token"),
    "no tokenizer": (remove("tokenizer.json"), r"tokenizer\.json: missing"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{}"), "the tokenizer cannot be read"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_checkpoint_that_is_not_whole_is_one_error(fault, tmp_path):
    write_checkpoint(tmp_path, "llada")
    change, message = WRONG[fault]
    change(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        check_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(InputError, match=message):
        Policy.load(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("model.layers.1.self_attn.v_proj.bias"), r"1 missing \(model\.layers\.1\.self_attn\.v_proj\.bias\)"),
        (add("model.layers.1.self_attn.o_proj.bias"), r"1 unexpected \(model\.layers\.1\.self_attn\.o_proj\.bias\)"),
        (config(use_sliding_window=True), "use_sliding_window True"),
        (remove("merges.txt"), r"merges\.txt: missing"),
        (config(mask_token_id=61), "mask_token_id 61, which is not the tokenizer's mask token"),
    ],
)
def test_a_dream_checkpoint_that_is_not_whole_is_one_error(change, message, tmp_path):
    write_checkpoint(tmp_path, "dream")
    change(tmp_path)
    with pytest.raises(InputError, match=message):
        check_checkpoint(tmp_path)
