"""Compute that a run needs, estimated from its settings before it starts: forward passes, FLOPs, hours.

Torch-free, for `plan`. The operations are those that `flop_counter.py` counts while a run trains. Data-dependent pass
counts (early end of text, adaptive thresholds) are upper bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unmask.config.schema.scales import Hardware
from unmask.config.schema.training import Training
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.models.shapes import Shape, flops_per_token


@dataclass(frozen=True)
class Passes:
    """Passes of prompt and response through the model for each response of a buffer, in addition to its sampling."""

    update: int  # with gradient, at each update
    prepare: int = 0  # without gradient, once per buffer
    refresh: int = 0  # without gradient, at each update
    copies: int = 1  # of one response in one forward pass with gradient, if `rows_per_forward` allows
    scored: int = 1  # the same without gradient
    apart: bool = False  # the loss is a mean over copies, whose activations need not all exist at once


def passes_of(run: RunSpec) -> Passes:
    """Return the passes of a run's method; an unknown method is assumed to score nothing before its updates."""
    own, updates = run.method_settings, run.training["updates_per_buffer"]
    if run.algorithm == "dmpo":
        return _dmpo(run)

    # The GRPO family scores old and reference policy, hence the factor 2, on the masks of each update. Where no mask is
    # random (no prompt masking, the mean field of DiFFPO), one scoring serves all updates of a buffer.
    if run.algorithm == "diffu_grpo":
        return Passes(1, 2 * (updates if own["prompt_mask"] else 1))
    # A fully masked pass and two with complementary masks.
    if run.algorithm == "coupled_grpo":
        return Passes(3, 2 * 3 * updates)
    if run.algorithm == "diffpo":
        # The threshold head learns from states recorded while sampling: no pass through the model.
        if own["learn"] == "sampler":
            return Passes(0)
        return Passes(2, 2 * 2 * updates) if own["surrogate"] == "two_stage" else Passes(1, 2)

    copies = own.get("copies", 1)
    return Passes(copies, copies=copies)


def _dmpo(run: RunSpec) -> Passes:
    """Count DMPO's old and reference log-probabilities, the current ones of the model baseline, and the loss copies."""
    own, updates = run.method_settings, run.training["updates_per_buffer"]
    wddo = own["loss_kind"] == "wddo"
    # WDDO has two terms, each on separate masks, and needs the old ELBO on both sets of each update.
    update = own["copies"] * (2 if wddo else 1)
    if own["loss_kind"] == "reward_only":
        return Passes(update, copies=own["copies"], apart=True)

    # With alpha 0 the weights come from rewards only, and the model baseline is all that needs likelihoods.
    scored = own["alpha"] > 0 or own["baseline"] == "model"
    exact = own["likelihood"] == "trajectory"
    each = forward_passes(run.sampler, run.training["generation_length"], run.block_length)
    each = each if exact else own["elbo_copies"]
    return Passes(
        update=update,
        # The exact old log-probabilities were recorded while sampling: only the reference remains to be scored.
        prepare=scored * each * (1 if exact else 2) + wddo * 2 * updates * own["copies"],
        refresh=each * (own["loss_kind"] == "wdce" and own["baseline"] == "model"),
        copies=own["copies"],
        scored=max(own["copies"] * wddo, 1 if exact else own["elbo_copies"]),
        apart=not wddo,
    )


def forward_passes(sampler: dict[str, Any], length: int, block: int) -> int:
    """Return the denoising steps of a response of `length` tokens: exact for top-k, else at most one per token."""
    block = active_block(sampler, length, block)
    # Each block rounds up on its own: a step never commits tokens of two blocks.
    return length // block * -(-block // sampler.get("tokens_per_step", 1))


def active_block(sampler: dict[str, Any], length: int, block: int) -> int:
    """Return the tokens of a block: the whole response for a sampler without blocks."""
    return block if sampler.get("blocks", True) else length


def decoded_tokens(sampler: dict[str, Any], prompt: int, length: int, block: int) -> int:
    """Return the tokens that pass through the model for one response: whole sequences, or the part not cached."""
    block = active_block(sampler, length, block)
    blocks = length // block
    later = forward_passes(sampler, length, block) // blocks - 1  # passes of a block after its first
    # The first pass of a block takes the whole sequence and fills the cache. Later ones recompute a window: everything
    # without a cache, what starts at the block with the prefix cache, the block itself with the dual cache.
    windows = {
        "none": blocks * (prompt + length),
        "prefix": sum(length - i * block for i in range(blocks)),
        "dual": blocks * block,
    }
    return (blocks * (prompt + length) + later * windows[sampler["cache"]]) * _guided(sampler)


def trained_parameters(shape: Shape, training: Training) -> int:
    """Return the number of parameters that the optimiser updates: the adapter's, or all."""
    return shape.adapter(training.lora_rank, training.lora_targets) if training.lora_rank else shape.parameters


def held_parameters(shape: Shape, run: RunSpec) -> int:
    """Return the parameters of a frozen adapter below the trained one, assumed to be of equal size; 0 without one."""
    training = Training(**run.training)
    merged = run.start_from and training.merge_start and training.lora_rank
    return trained_parameters(shape, training) if merged else 0


def sequence_width(run: RunSpec, prompt: int) -> int:
    """Return the tokens of a training sequence; on a corpus, `generation_length` includes the prompt."""
    return run.training["generation_length"] + (0 if run.corpus else prompt)


def training_flops(shape: Shape, run: RunSpec, prompt: int) -> dict[str, float]:
    """Return the FLOPs of a training run by kind, for prompts of `prompt` tokens.

    `flop_counter.py` counts their sum without `recomputing`, the second forward pass of activation checkpointing.
    """
    t, passes = Training(**run.training), passes_of(run)
    adapter = t.lora_rank and trained_parameters(shape, t)
    forward, backward = flops_per_token(shape.body + adapter + held_parameters(shape, run), adapter or shape.body)
    width, rows = sequence_width(run, prompt), t.buffers * t.prompts_per_buffer * t.group_size

    # SFT learns from given responses and samples none.
    sampled = 0
    if run.algorithm != "sft":
        sampled = rows * decoded_tokens(run.sampler, prompt, t.generation_length, run.block_length)
        # Without dropout the rows of a group share their first pass: nothing but the prompt differs yet.
        if not t.rollout_dropout:
            sampled -= (rows - rows // t.group_size) * width * _guided(run.sampler)

    updated = rows * t.updates_per_buffer * passes.update * width
    looks = -(-t.buffers // t.validate_every) if t.validate_every else 0  # rounded up: the end is always validated
    validated = looks * run.task_settings.get("validation", 0)
    return {
        "sampling": sampled * forward,
        "validating": validated * decoded_tokens(run.sampler, prompt, t.generation_length, run.block_length) * forward,
        "scoring": rows * (passes.prepare + t.updates_per_buffer * passes.refresh) * width * forward,
        "updating": updated * (forward + backward),
        "recomputing": updated * forward * t.activation_checkpointing,
    }


def evaluation_flops(shape: Shape, run: RunSpec, evaluation: EvaluationSpec, prompt: int, examples: int) -> float:
    """Return the FLOPs of an evaluation: every example at every length with every sampler."""
    adapter = 0
    if run.trains and run.training["lora_rank"]:
        adapter = trained_parameters(shape, Training(**run.training)) + held_parameters(shape, run)
    forward, _ = flops_per_token(shape.body + adapter, 0)
    each = [
        decoded_tokens(sampler, prompt, length, evaluation.block_length)
        for sampler in evaluation.samplers.values()
        for length in evaluation.lengths
    ]
    return examples * sum(each) * forward


def hours(flops: dict[str, float], cost: Hardware) -> float:
    """Return the hours of one GPU (or CPU) for operations by kind, at the throughput assumed in `cost`."""
    # Decoding has its own utilisation, on GPUs below that of scoring and updates.
    rates = dict.fromkeys(("sampling", "validating"), cost.decoding_utilisation)
    seconds = sum(value / rates.get(kind, cost.training_utilisation) for kind, value in flops.items())
    return seconds / (cost.peak_tflops * 1e12) / 3600


def _guided(sampler: dict[str, Any]) -> int:
    """Return the passes per denoising step: classifier-free guidance needs a second, unconditional one."""
    return 2 if sampler["guidance"] else 1
