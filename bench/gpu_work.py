"""Workloads of bench/gpu.py: loading, rollouts and updates of a model with random weights, and peak hardware speed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from unmask.common.random_streams import Streams
from unmask.config.schema.samplers import TopK
from unmask.config.specs import RunSpec
from unmask.models.llada import LladaConfig, LladaForMaskedDiffusion
from unmask.models.loading import load_model
from unmask.models.policy import Policy
from unmask.models.shapes import LLADA_8B, Shape, flops_per_token
from unmask.rl.likelihoods import denoising, draw_copies, mean_field
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

Job = dict[str, Any]
FULL: Job = {
    "shape": LLADA_8B,
    "prompt": 200,
    "length": 256,
    "block": 32,
    "rows": 8,
    "responses": 4,
    "copies": 4,
    "product": 8192,  # side length of the matrices
    "copied": 2**31,  # bytes
}
SMOKE: Job = {
    "shape": Shape(hidden=64, layers=2, heads=2, kv_heads=2, mlp=96, vocabulary=512),
    "prompt": 12,
    "length": 16,
    "block": 8,
    "rows": 2,
    "responses": 2,
    "copies": 2,
    "product": 128,
    "copied": 2**20,
}
PAIR_ROWS = 8  # decoded by two processes together
CACHES = ("none", "prefix", "dual")
SAMPLER = TopK(tokens_per_step=2, score="confidence")


def random_model(shape: Shape, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> LladaForMaskedDiffusion:
    """Build a model of this shape with random weights; the same on every call."""
    config = LladaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
        mask_token_id=0,
        eos_token_id=1,
    )

    # Allocated on the device directly: 16 GB of weights need not pass through host memory.
    with torch.device("meta"):
        model = LladaForMaskedDiffusion(config).to(dtype)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    # Scaled by the width, so that activations neither vanish nor overflow; norms start at one.
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.fill_(1.0)
        else:
            parameter.normal_(std=shape.hidden**-0.5, generator=generator)
    return model


def with_adapter(model: LladaForMaskedDiffusion, run: RunSpec) -> Policy:
    """Put a fresh adapter with the settings of a run on the model."""
    policy, t = Policy(model, None), run.training
    policy.make_trainable(rank=t.lora_rank, alpha=t.lora_alpha, dropout=t.lora_dropout, targets=t.lora_targets, seed=0)
    return policy


def seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Time `work` `repeats` times after one warm-up run [s]."""
    found = []
    for _ in range(repeats + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - began)
    return found[1:]


def wait(device: torch.device) -> None:
    """Wait until the GPU has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def reached(job: Job, device: torch.device, repeats: int) -> dict[str, float]:
    """Measure peak FLOP/s in a large bfloat16 product and peak bytes/s in a large copy."""
    side = job["product"]
    one = torch.randn((side, side), device=device, dtype=torch.bfloat16)
    source = torch.empty(job["copied"], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    # The fastest repetition, because a roofline is an upper bound.
    product = min(seconds(lambda: one @ one, device, 5 * repeats))
    copy = min(seconds(lambda: target.copy_(source), device, 5 * repeats))
    # A product has one multiplication and one addition per term; a copy reads and writes every byte.
    return {"flops": 2 * side**3 / product, "bandwidth": 2 * job["copied"] / copy}


def load_seconds(model: LladaForMaskedDiffusion) -> Job:
    """Measure the seconds to load the model onto its device from files that were just written, so most are cached."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        model.save_pretrained(folder)
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        # The second model is freed at once, so that it does not count in the peaks of what follows.
        times = seconds(lambda: load_model(folder, model.device, model.dtype), model.device, 1)
    return {"seconds": times, "gigabytes": size / 1e9}


def widths(job: Job, cache: str) -> list[int]:
    """Return the tokens of each forward pass of a response: the whole sequence, or what a cache leaves of it."""
    whole, passes = job["prompt"] + job["length"], job["block"] // SAMPLER.tokens_per_step
    found = []
    for start in range(0, job["length"], job["block"]):
        later = {"none": whole, "prefix": job["length"] - start, "dual": job["block"]}[cache]
        # The first pass of a block is over the whole sequence, because it fills the cache.
        found += [whole] + (passes - 1) * [later]
    return found


def rollouts(job: Job, model: LladaForMaskedDiffusion, cache: str, peaks: dict[str, float], repeats: int) -> Job:
    """Measure the tokens per second of a batch of responses; compute the roofline."""
    device = model.device
    model.eval()
    prompt = torch.randint(2, job["shape"].vocabulary, (job["rows"], job["prompt"]), device=device)
    streams = Streams.of(0, torch.arange(job["rows"], device=device))
    mask = torch.ones_like(prompt, dtype=torch.bool)
    # No token has the end-of-text id −1, so every response has its full length.
    settings = DecodingSettings(
        job["length"], job["block"], SAMPLER.model_copy(update={"cache": cache}), temperature=0.2
    )
    times = seconds(lambda: decode(model, prompt, mask, settings, eot=-1, streams=streams), device, repeats)

    # Per pass, the longer of reading all weights (memory-bound) and of its operations (compute-bound).
    read = sum(p.numel() * p.element_size() for p in model.parameters()) / peaks["bandwidth"]
    each = flops_per_token(model_body(model), 0)[0] * job["rows"] / peaks["flops"]
    limit = sum(max(read, each * width) for width in widths(job, cache))
    tokens = job["rows"] * job["length"]
    return {"seconds": times, "tokens_per_second": tokens / median(times), "roofline": tokens / limit}


def update(job: Job, policy: Policy, method: str, checkpointing: bool, peaks: dict[str, float], repeats: int) -> Job:
    """Measure seconds, utilisation and peak memory of one update on responses × copies sequences.

    DMPO scores masked copies of some responses; GRPO, with the mean field of d1, scores as many responses once each.
    """
    model, device = policy.model.train(), policy.model.device
    model.activation_checkpointing = checkpointing
    vocabulary, rows = job["shape"].vocabulary, job["responses"]
    sequences = rows * job["copies"]
    if method == "grpo":
        rows = sequences
    prompt = torch.randint(2, vocabulary, (rows, job["prompt"]), device=device)
    response = torch.randint(2, vocabulary, (rows, job["length"]), device=device)

    streams = Streams.of(0, torch.arange(rows, device=device))
    copies = draw_copies(job["copies"], job["length"], "bernoulli", streams)
    advantage = torch.linspace(1.5, -0.5, rows, device=device)
    inputs = (model, prompt, torch.ones_like(prompt, dtype=torch.bool), response)
    parameters = list(policy.trainable().values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-6)

    def dmpo() -> Tensor:
        """Weight denoising terms of Bernoulli-masked copies, with some positive and some negative weights."""
        return (-(advantage * denoising(*inputs, copies).mean(1)) / job["length"]).mean()

    def grpo() -> Tensor:
        """Clip the ratio to the policy of the rollouts, which at the first update is the policy itself."""
        new = mean_field(*inputs)
        ratio = (new - new.detach()).exp()
        gain = advantage[:, None] * ratio
        clipped = advantage[:, None] * ratio.clamp(0.5, 1.5)
        return -torch.minimum(gain, clipped).mean()

    loss = {"dmpo": dmpo, "grpo": grpo}[method]

    def step() -> None:
        loss().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.2)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times = seconds(step, device, repeats)
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None

    # Recomputed activations are not counted, so utilisation falls with activation checkpointing.
    trained = sum(p.numel() for p in parameters)
    tokens = sequences * (job["prompt"] + job["length"])
    flops = tokens * sum(flops_per_token(model_body(model), trained))
    return {"seconds": times, "utilisation": flops / median(times) / peaks["flops"], "peak_gb": peak}


def model_body(model: LladaForMaskedDiffusion) -> int:
    """Count the weights of the layers and the final norm, including the adapter's."""
    return sum(p.numel() for p in model.model.parameters()) - model.get_input_embeddings().weight.numel()


def tokens_of(rows: slice, device: torch.device) -> list[list[int]]:
    """Decode some rows of a fixed batch with a small model in float32, whose results do not depend on the batch."""
    job = SMOKE
    model = random_model(job["shape"], device, torch.float32)
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(2, job["shape"].vocabulary, (PAIR_ROWS, job["prompt"]), generator=generator).to(device)
    streams = Streams.of(0, torch.arange(PAIR_ROWS, device=device)[rows])
    settings = DecodingSettings(job["length"], job["block"], SAMPLER, temperature=1.0)
    mask = torch.ones_like(prompt, dtype=torch.bool)
    return decode(model, prompt[rows], mask[rows], settings, eot=-1, streams=streams).response.tolist()
