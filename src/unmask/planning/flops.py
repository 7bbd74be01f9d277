"""Compute that a run needs, estimated from its settings before it starts: forward passes, FLOPs, hours.

Torch-free, for `plan`. The operations are those that `flop_counter.py` counts while a run trains. Data-dependent pass
counts (early end of text, adaptive thresholds) are upper bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from unmask.config.schema.samplers import Sampler, TopK
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
    copies: int = 1  # of one response in one forward pass with gradient, if `micro_batch_size` allows
    scored: int = 1  # the same without gradient
    apart: bool = False  # the loss is a mean over copies, whose activations need not all exist at once


def passes_of(run: RunSpec) -> Passes:
    """Return the passes of a run's method; an unknown method is assumed to score nothing before its updates."""
    own, updates = run.method_settings, run.training.updates_per_buffer
    match run.algorithm:
        case "dmpo":
            return _dmpo(run)
        # The GRPO family scores old and reference policy, hence the factor 2, on the masks of each update. Where no
        # mask is random (no prompt masking, the mean field of DiFFPO), one scoring serves all updates of a buffer.
        case "diffu_grpo":
            scorings = updates if own["prompt_mask"] else 1
            return Passes(update=1, prepare=2 * scorings)
        # A fully masked pass and two with complementary masks.
        case "coupled_grpo":
            return Passes(update=3, prepare=2 * 3 * updates)
        # The threshold head learns from states recorded while sampling: no pass through the model.
        case "diffpo" if own["learn"] == "sampler":
            return Passes(update=0)
        case "diffpo" if own["surrogate"] == "two_stage":
            return Passes(update=2, prepare=2 * 2 * updates)
        case "diffpo":
            return Passes(update=1, prepare=2)
        case _:
            copies = own.get("copies", 1)
            return Passes(update=copies, copies=copies)


def _dmpo(run: RunSpec) -> Passes:
    """Count DMPO's old and reference log-probabilities, the current ones of the model baseline, and the loss copies."""
    own, copies = run.method_settings, run.method_settings["copies"]
    if own["loss_kind"] == "reward_only":
        return Passes(update=copies, copies=copies, apart=True)

    # A likelihood is either exact, a pass per denoising step, or an ELBO over masked copies.
    exact = own["likelihood"] == "trajectory"
    if exact:
        each = forward_passes(run.rollout_sampler, run.training.generation_length, run.block_length)
        scored = 1
    else:
        each, scored = own["elbo_copies"], own["elbo_copies"]

    # With alpha 0 the weights come from rewards only, and the model baseline is all that needs likelihoods.
    prepare = 0
    if own["alpha"] > 0 or own["baseline"] == "model":
        # The exact old log-probabilities were recorded while sampling: only the reference remains to be scored.
        prepare = each if exact else 2 * each

    # WDDO has two terms, each on separate masks, and needs the old ELBO on both sets of each update.
    if own["loss_kind"] == "wddo":
        prepare += 2 * run.training.updates_per_buffer * copies
        return Passes(update=2 * copies, prepare=prepare, copies=copies, scored=max(copies, scored))

    refresh = each if own["loss_kind"] == "wdce" and own["baseline"] == "model" else 0
    return Passes(update=copies, prepare=prepare, refresh=refresh, copies=copies, scored=scored, apart=True)


def forward_passes(sampler: Sampler, length: int, block: int) -> int:
    """Return the denoising steps of a response of `length` tokens: exact for top-k, else at most one per token."""
    block = active_block(sampler, length, block)
    # Each block rounds up on its own: a step never commits tokens of two blocks.
    tokens_per_step = sampler.tokens_per_step if isinstance(sampler, TopK) else 1
    steps = math.ceil(block / tokens_per_step)
    return length // block * steps


def active_block(sampler: Sampler, length: int, block: int) -> int:
    """Return the tokens of a block: the whole response for a sampler without blocks."""
    return block if sampler.blocks else length


def decoded_tokens(sampler: Sampler, prompt: int, length: int, block: int) -> int:
    """Return the tokens that pass through the model for one response: whole sequences, or the part not cached."""
    block = active_block(sampler, length, block)
    blocks = length // block
    later = forward_passes(sampler, length, block) // blocks - 1  # passes of a block after its first

    # The first pass of a block takes the whole sequence and fills the cache. Later ones recompute a window: everything
    # without a cache, what starts at the block with the prefix cache, the block itself with the dual cache.
    whole = blocks * (prompt + length)
    windows = {
        "none": whole,
        "prefix": sum(length - index * block for index in range(blocks)),
        "dual": blocks * block,
    }
    recomputed = later * windows[sampler.cache]
    return (whole + recomputed) * _guided(sampler)


def trained_parameters(shape: Shape, training: Training) -> int:
    """Return the number of parameters that the optimiser updates: the adapter's, or all."""
    if training.lora_rank == 0:
        return shape.parameters
    return shape.adapter(training.lora_rank, training.lora_targets)


def held_parameters(shape: Shape, run: RunSpec) -> int:
    """Return the parameters of a frozen adapter below the trained one, assumed to be of equal size; 0 without one."""
    if run.start_from and run.training.merge_start and run.training.lora_rank:
        return trained_parameters(shape, run.training)
    return 0


def sequence_width(run: RunSpec, prompt: int) -> int:
    """Return the tokens of a training sequence; on a corpus, `generation_length` includes the prompt."""
    length = run.training.generation_length
    return length if run.corpus else prompt + length


def training_flops(shape: Shape, run: RunSpec, prompt: int, checkpointing: bool = False) -> dict[str, float]:
    """Return the FLOPs of a training run by kind, for prompts of `prompt` tokens.

    `flop_counter.py` counts their sum without `recomputing`, the second forward pass if activations are not stored
    (`checkpointing`).
    """
    training, sampler, passes = run.training, run.rollout_sampler, passes_of(run)
    adapter = trained_parameters(shape, training) if training.lora_rank else 0
    body = shape.body + adapter + held_parameters(shape, run)
    forward, backward = flops_per_token(body, adapter or shape.body)

    width = sequence_width(run, prompt)
    groups = training.buffers * training.prompts_per_buffer
    rows = groups * training.group_size
    response = decoded_tokens(sampler, prompt, training.generation_length, run.block_length)

    # SFT learns from given responses and samples none.
    sampled = 0
    if run.algorithm != "sft":
        sampled = rows * response
        # Without dropout the rows of a group share their first pass: nothing but the prompt differs yet.
        if not training.rollout_dropout:
            sampled -= (rows - groups) * width * _guided(sampler)

    # Rounded up, because the end is always validated.
    validations = 0
    if training.validate_every:
        validations = math.ceil(training.buffers / training.validate_every)
    validated = validations * run.task_settings.get("validation", 0) * response

    scored = rows * (passes.prepare + training.updates_per_buffer * passes.refresh) * width
    updated = rows * training.updates_per_buffer * passes.update * width
    return {
        "sampling": sampled * forward,
        "validating": validated * forward,
        "scoring": scored * forward,
        "updating": updated * (forward + backward),
        "recomputing": updated * forward if checkpointing else 0,
    }


def evaluation_flops(shape: Shape, run: RunSpec, evaluation: EvaluationSpec, prompt: int, examples: int) -> float:
    """Return the FLOPs of an evaluation: every example at every length with every sampler."""
    adapter = 0
    if run.trains and run.training.lora_rank:
        adapter = trained_parameters(shape, run.training) + held_parameters(shape, run)
    forward, _ = flops_per_token(shape.body + adapter, 0)

    tokens = 0
    for sampler in evaluation.samplers.values():
        for length in evaluation.lengths:
            tokens += decoded_tokens(sampler, prompt, length, evaluation.block_length)
    return examples * tokens * forward


def hours(flops: dict[str, float], cost: Hardware) -> float:
    """Return the hours of one GPU (or CPU) for operations by kind, at the throughput assumed in `cost`."""
    # Decoding has its own utilisation, on GPUs below that of scoring and updates.
    seconds = 0.0
    for kind, operations in flops.items():
        decoding = kind in ("sampling", "validating")
        seconds += operations / (cost.decoding_utilisation if decoding else cost.training_utilisation)
    return seconds / (cost.peak_tflops * 1e12) / 3600


def _guided(sampler: Sampler) -> int:
    """Return the passes per denoising step: classifier-free guidance needs a second, unconditional one."""
    return 2 if sampler.guidance else 1
