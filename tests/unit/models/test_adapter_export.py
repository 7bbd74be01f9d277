"""Exported adapters: stock PEFT on a model with the published module names computes what ours computes."""

import json
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from helpers.paths import ROOT
from helpers.published_checkpoints import CONFIGS, LAYERS, NAMES, change_json, kinds, plain_logits, write_checkpoint
from unmask.models.adapter_export import export, merge
from unmask.models.policy import Policy

pytestmark = pytest.mark.usefixtures("no_network")
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Released(nn.Module):
    """A module tree with the names of a checkpoint's weights; what it computes is `plain_logits` on its weights.

    PEFT replaces its linear modules, whose weight plus LoRA's product is read when it computes.
    """

    def __init__(self, kind, weights):
        super().__init__()
        self.kind = kind
        for name, value in weights.items():
            *path, leaf = name.split(".")
            parent = self
            for part in path[:-1]:
                if part not in parent._modules:
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            if path[-1] not in parent._modules:
                is_linear = value.ndim == 2 and "embed_tokens" not in name and "wte" not in name
                parent.add_module(path[-1], nn.Linear(*value.shape[::-1], bias=False) if is_linear else nn.Module())
            parent.get_submodule(path[-1]).register_parameter(leaf, nn.Parameter(value.clone()))

    def forward(self, ids):
        weights = {}
        for name, module in self.named_modules():
            if hasattr(module, "lora_A"):
                product = module.get_delta_weight("default")
                weights[f"{name}.weight"] = module.base_layer.weight + product
                if module.base_layer.bias is not None:
                    weights[f"{name}.bias"] = module.base_layer.bias
            elif not any(part in name for part in ("lora_", "base_layer")):
                weights |= {f"{name}.{leaf}": value for leaf, value in module.named_parameters(recurse=False)}
        return torch.stack([plain_logits(self.kind, weights, row) for row in ids])


@pytest.fixture
def trained(tmp_path):
    """Makes a base model and an adapter of ours on it; returns the policy and the base model's weights."""

    def make(kind, targets=ALL):
        weights = write_checkpoint(tmp_path / "base", kind)
        policy = Policy.load(tmp_path / "base", device="cpu")
        policy.make_trainable(rank=4, alpha=8, dropout=0.0, targets=targets, seed=1)
        with torch.no_grad():
            for name, parameter in sorted(policy.trainable().items()):
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
        policy.save(tmp_path / "adapter")
        return policy, weights

    return make


@kinds
@pytest.mark.parametrize("targets", [ALL, ["q_proj", "down_proj"]])
def test_stock_peft_computes_the_same_on_the_published_modules(kind, targets, trained, ids, tmp_path):
    policy, weights = trained(kind, targets)
    modules = export(tmp_path / "adapter", tmp_path / "base", tmp_path / "out", "GSAI-ML/LLaDA-8B-Instruct")
    assert len(modules) == LAYERS * len(targets)
    assert all(module.startswith(NAMES[kind]["block"]) for module in modules)
    adapted = PeftModel.from_pretrained(Released(kind, weights), tmp_path / "out")
    assert sum(hasattr(module, "lora_A") for module in adapted.modules()) == len(modules)  # the head is not adapted
    with torch.no_grad():
        wanted = policy.model(ids)
        torch.testing.assert_close(adapted(ids), wanted, atol=1e-5, rtol=1e-5)
        plain = Released(kind, weights)(ids)
        assert (plain - wanted).abs().mean() > 0.1
        again = Policy.load(tmp_path / "base", tmp_path / "out", device="cpu")
        assert torch.equal(again.model(ids), wanted)
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "GSAI-ML/LLaDA-8B-Instruct"


@kinds
@pytest.mark.parametrize("rslora", [False, True])
def test_merged_weights_compute_the_same(kind, rslora, trained, ids, tmp_path):
    trained(kind)
    change_json(tmp_path / "adapter/adapter_config.json", use_rslora=rslora)
    (tmp_path / "adapter/SHA256SUMS").unlink()
    policy = Policy.load(tmp_path / "base", tmp_path / "adapter", device="cpu")
    assert merge(tmp_path / "adapter", tmp_path / "base", tmp_path / "out", torch.float32) == LAYERS * len(ALL)
    merged = Policy.load(tmp_path / "out", device="cpu")
    stored = {}
    for file in (tmp_path / "out").glob("*.safetensors"):
        stored |= load_file(file)
    with torch.no_grad():
        wanted = policy.model(ids)
        torch.testing.assert_close(merged.model(ids), wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            torch.stack([plain_logits(kind, stored, row) for row in ids]), wanted, atol=1e-5, rtol=1e-5
        )
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(4 * value.numel() for value in stored.values())
    (key,) = CONFIGS[kind].keys() & {"torch_dtype", "dtype"}
    assert json.loads((tmp_path / "out/config.json").read_text())[key] == "float32"
    assert CONFIGS[kind][key] == "bfloat16"


def test_the_step_writes_both_and_replaces_nothing(trained, tmp_path):
    trained("llada")
    outs = [tmp_path / "one", tmp_path / "two"]
    for out, more in zip(outs, ([], ["--merge"]), strict=True):
        words = [sys.executable, ROOT / "src/export_adapter.py", tmp_path / "adapter"]
        words += ["--base", tmp_path / "base", "--out", out, *more]
        for expected in (0, 1):
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == expected, done.stderr
        assert "exists; choose another folder" in done.stderr
    types = [load_file(next(out.glob("*model*.safetensors"))) for out in outs]
    for tensors, dtype in zip(types, (torch.float32, torch.bfloat16), strict=True):
        assert {value.dtype for value in tensors.values()} == {dtype}
