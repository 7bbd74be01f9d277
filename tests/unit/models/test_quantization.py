"""A base model in four bits: refused at once where it cannot be, and trained like any other where it can.

What needs bitsandbytes is skipped without it, and runs on its path for CPUs.
"""

import copy
import importlib.util

import pytest
import torch

from unmask import methods
from unmask.common.errors import InputError
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.models.policy import Policy
from unmask.models.quantization import check_nf4
from unmask.models.tiny import build_model, build_tokenizer
from unmask.training.flop_counter import FlopCounter
from unmask.training.trainer import Trainer

installed = pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="no bitsandbytes: .[nf4]")


@pytest.mark.parametrize(
    ("found", "said"),
    [(None, r"bitsandbytes; run `pip install -e '\.\[nf4\]'`"), ("", "a CUDA device and none is visible")],
)
def test_it_is_refused_before_anything_is_read(found, said, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"training.quantisation: nf4 needs {said}"):
        Policy.load(tmp_path / "nowhere", quantisation="nf4")


def test_a_gpu_is_enough(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_nf4(needs_gpu=True)


def test_every_weight_cannot_be_trained_in_it(config):
    config["scales"]["smoke"]["training"] |= {"quantisation": "nf4", "lora_rank": 0}
    config["experiments"] = {"main": config["experiments"]["main"] | {"methods": ["base", "dmpo"]}}
    for scale in config["scales"].values():
        scale["experiment_changes"] = {}  # of experiments that are no more
    with pytest.raises(ConfigError) as mistakes:
        expand(config)
    assert mistakes.value.lines == [
        "methods.dmpo.lora_rank: 0 trains every weight, and quantisation nf4 trains an adapter only; give it a rank"
    ]


@pytest.fixture
def policy():
    """An untrained model whose rows are multiples of 64 weights, as those of the published ones: a block of NF4.

    With other rows bitsandbytes (0.50.2) takes the scales of wrong blocks on a CPU.
    """
    tokenizer = build_tokenizer()
    shape = {"hidden_size": 64, "layers": 2, "heads": 2, "mlp_size": 128, "rope_theta": 1e4}
    return Policy(build_model(**shape, vocabulary=len(tokenizer), seed=0).eval(), tokenizer)


@pytest.fixture
def stored(policy, tmp_path):
    """The folder of a model."""
    policy.model.save_pretrained(tmp_path / "weights")
    policy.tokenizer.save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def small(stored, monkeypatch):
    """The same policy in NF4, computed as on a GPU: without the order of bits that some CPUs want."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    return Policy.load(stored, device="cpu", dtype="float32", quantisation="nf4")


IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])


@installed
def test_matrices_of_the_layers_alone_are_rounded(policy, small):
    from bitsandbytes.functional import dequantize_4bit

    plain, rounded = dict(policy.model.named_parameters()), copy.deepcopy(policy.model)
    changed = [name for name, p in small.model.named_parameters() if p.dtype == torch.uint8]
    assert changed == [name for name in plain if name.endswith("proj.weight")]
    assert len(changed) == 2 * 7
    for name, parameter in small.model.named_parameters():
        if name not in changed:
            assert torch.equal(parameter, plain[name])
            continue
        assert parameter.quant_state.nested  # double quantisation
        assert parameter.quant_state.quant_type == "nf4"
        assert parameter.numel() == plain[name].numel() / 2
        value = dequantize_4bit(parameter.data, parameter.quant_state)
        assert (value - plain[name]).abs().max() < 0.16 * plain[name].abs().max()  # half of the widest gap, and scales
        rounded.get_parameter(name).data = value
    torch.testing.assert_close(small.model(IDS), rounded(IDS), rtol=0, atol=1e-5)
    assert not torch.equal(small.model(IDS), policy.model(IDS))
    assert FlopCounter(small.model).forward == FlopCounter(policy.model).forward


@installed
def test_an_adapter_is_trained_on_it_saved_and_loaded(config, small, stored, sudoku, tmp_path):
    config["scales"]["smoke"]["training"] |= {"quantisation": "nf4"}
    config["methods"]["dmpo"]["baseline"] = "none"
    run = expand(config).runs["dmpo/sudoku/default/seed-0"]
    assert run.numbers == {"dtype": "float32", "quantisation": "nf4"}
    before = {name: p.detach().clone() for name, p in small.model.named_parameters()}
    algorithm, splits = methods.load(run.algorithm, run.method_settings), sudoku.splits()
    folder, held_back = tmp_path / "checkpoints", splits["validation"]
    one = Trainer(run, small, algorithm, sudoku, splits["train"], folder, "x", held_back=held_back)
    one.activation_checkpointing = True
    metrics = one.train()
    assert all(row["grad_norm"] > 0 for row in metrics)
    assert {p.dtype for p in small.trainable().values()} == {torch.float32}
    assert all("lora_" in name for name in small.trainable())
    after = dict(small.model.named_parameters())
    assert all(torch.equal(p, after[name.replace("proj.", "proj.base_layer.")]) for name, p in before.items())
    small.model.eval()
    moved = small.model(IDS)
    with small.merged():  # nothing is folded into four bits
        assert torch.equal(small.model(IDS), moved)
    small.save(tmp_path / "adapter")
    again = Policy.load(stored, tmp_path / "adapter", device="cpu", dtype="float32", quantisation="nf4")
    assert torch.equal(again.model.eval()(IDS), moved)
    with small.adapter.disable_adapter():
        assert not torch.equal(small.model(IDS), moved)
