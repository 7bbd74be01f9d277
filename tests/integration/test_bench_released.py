"""The comparison with released code, on a stub of a checkout that decodes and scores by the textbook."""

import json
import os
import subprocess
import sys

import pytest

import released_code
from helpers.paths import ROOT

CONFIGURATION = """
from types import SimpleNamespace

class LLaDAConfig(SimpleNamespace):
    pass
"""
MODELING = """
import torch
from types import SimpleNamespace
from unmask.models.checkpoint_formats import llada_name
from unmask.models.tiny import build_model

class LLaDAModelLM(torch.nn.Module):
    '''The same model; what is tested is how weights and adapters get there.'''
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = torch.nn.Module()
        self.model.transformer = torch.nn.Module()
        blocks = [torch.nn.Module() for _ in range(config.n_layers)]
        self.model.transformer.blocks = torch.nn.ModuleList(blocks)
        shape = {"hidden_size": config.d_model, "layers": config.n_layers, "heads": config.n_heads}
        shape |= {"mlp_size": config.mlp_hidden_size, "rope_theta": config.rope_theta, "vocabulary": config.vocab_size}
        self.inner = [build_model(**shape, seed=1).eval()]
        # adapters go where LLaDA's published names say
        for block, layer in zip(blocks, self.inner[0].model.layers):
            attention = layer.self_attn
            block.q_proj, block.k_proj, block.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
            block.attn_out = attention.o_proj

    def load_state_dict(self, state):
        inner = self.inner[0]
        inner.load_state_dict({name: state.pop(llada_name(name)) for name in list(inner.state_dict())})
        assert not state
        inner.requires_grad_(False)

    def forward(self, ids):
        # adapters replace modules of the blocks, not of the inner model
        for block, layer in zip(self.model.transformer.blocks, self.inner[0].model.layers):
            attention = layer.self_attn
            attention.q_proj, attention.k_proj, attention.v_proj = block.q_proj, block.k_proj, block.v_proj
            attention.o_proj = block.attn_out
        return SimpleNamespace(logits=self.inner[0](ids))
"""
GENERATE = """
import torch
import textbook

def _decode(model, prompt, cache, steps, gen_length, block_length, temperature, mask_id):
    sampler = {"rule": "top_k", "tokens_per_step": gen_length // steps, "score": "confidence"}
    generator = torch.Generator().manual_seed(0)
    made = textbook.decode(model.inner[0], prompt, length=gen_length, block_length=block_length, sampler=sampler,
        temperature=temperature, eot=-1, generator=generator, cache=cache)
    return torch.cat((prompt, made.response + WRONG), 1)

def generate_llada(model, prompt, **settings):
    return _decode(model, prompt, "none", **settings)

def generate_with_prefix_cache(model, prompt, **settings):
    return _decode(model, prompt, "prefix", **settings)

def generate_with_dual_cache(model, prompt, **settings):
    return _decode(model, prompt, "dual", **settings)
"""
TRAINER = """
import torch
import wandb
from trl.extras.profiling import profiling_decorator
from trl.trainer.grpo_trainer import GRPOTrainer

class DMPOTrainer(GRPOTrainer):
    @profiling_decorator
    def compute_loss(self, model, inputs):
        prompt, response, weight = (inputs[name] for name in ("prompt_ids", "completion_ids", "advantages"))
        share = 0.1 + 0.9 * torch.rand(len(prompt))
        half = torch.rand(response.shape) < share[:, None]
        total = 0
        for masked in (half, ~half):
            noisy = torch.where(masked, self.args.mask_id, response)
            logits = model(torch.cat((prompt, noisy), 1)).logits[:, prompt.shape[1] :]
            nats = -logits.log_softmax(-1).gather(-1, response[..., None])[..., 0]
            total = total + ((nats * masked).sum(1) / masked.sum(1) * weight).sum() / self.args.num_replicates
        return total
"""


def checkout(folder, wrong=0):
    """Write a stub of DMPO's repository; with `wrong`, its tokens are others."""
    texts = {
        "fast_samplers/fast_dllm/generate.py": GENERATE.replace("WRONG", str(wrong)),
        "fast_samplers/fast_dllm/modeling_llada.py": MODELING,
        "fast_samplers/fast_dllm/configuration_llada.py": CONFIGURATION,
        "DMPO/dmpo_trainer.py": TRAINER,
    }
    for name, text in texts.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def bench(*words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, ROOT / "bench/released.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_checkout_is_compared_on_the_same_weights_and_prompts(tmp_path):
    folder, out = checkout(tmp_path / "DMPO"), tmp_path / "released.json"
    done = bench(folder, "--quick", "--repeats", "1", "--only", "V512", "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert (found["released"], found["commit"]) == ("dmpo", "")
    works = ("uncached step", "prefix cache, whole generation", "dual cache, whole generation")
    assert list(found["cells"]) == [f"V512 {work}" for work in (*works, "DMPO loss and gradient")]
    for cell in found["cells"].values():
        assert cell["equal"]
        assert all(seconds[0] > 0 for seconds in cell["seconds"].values())
    assert "| time ratio " in done.stdout
    assert "| memory ratio " in done.stdout
    assert done.stdout.count("| yes ") == 4


def test_other_tokens_are_reported(tmp_path):
    folder, out = checkout(tmp_path / "DMPO", wrong=1), tmp_path / "released.json"
    done = bench(folder, "--quick", "--repeats", "1", "--only", "V512 dual", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "| NO " in done.stdout


def test_a_folder_that_is_no_checkout_is_refused_in_one_line(tmp_path):
    done = bench(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"bench/released.py: {tmp_path}: not a checkout of DMPO or d1 (for dmpo it lacks ")
    assert "git" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_a_checkout_lacks_is_named(tmp_path):
    folder = checkout(tmp_path)
    (folder / "fast_samplers/fast_dllm/generate.py").write_text("def generate_llada(): ...\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks def generate_with_prefix_cache in fast_samplers/fast_dllm/generate"):
        released_code.kind_of(folder)


def test_d1_has_one_sampler(tmp_path):
    from released import cells
    from run import QUICK

    for name, text in {"eval/generate.py": "def generate(): ...", "diffu-grpo/diffu_grpo_trainer.py": ""}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(cells(QUICK, tmp_path)) == ["V2048 uncached step", "V512 uncached step"]
