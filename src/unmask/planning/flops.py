"""Compute that a run needs, estimated from its settings before it starts: forward passes, FLOPs, hours.

Torch-free, for `plan`. The operations are those that `flop_counter.py` counts while a run trains. Data-dependent pass
counts (early end of text, adaptive thresholds) are upper bounds.
"""

from __future__ import annotations

import math

from unmask import methods
from unmask.config.schema.introspection import method_class
from unmask.config.schema.samplers import Sampler, TopK
from unmask.config.schema.scales import Hardware
from unmask.config.schema.training import Training
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.methods import Passes
from unmask.models.shapes import Shape, flops_per_token


def passes_of(run: RunSpec) -> Passes:
    """Return the passes of a run's method, which its own file counts."""
    method = methods.load(run.algorithm, run.method_settings)
    steps = forward_passes(run.rollout_sampler, run.training.generation_length, run.block_length)
    return method.passes(run.training.updates_per_buffer, steps)


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
    if run.corpus:
        return run.training.generation_length
    return prompt + run.training.generation_length


def training_flops(shape: Shape, run: RunSpec, prompt: int, checkpointing: bool = False) -> dict[str, float]:
    """Return the FLOPs of a training run by kind, for prompts of `prompt` tokens.

    `flop_counter.py` counts their sum without `recomputing`, the second forward pass if activations are not stored
    (`checkpointing`).
    """
    training = run.training
    sampler = run.rollout_sampler
    passes = passes_of(run)

    adapter = 0
    trained = shape.body
    if training.lora_rank:
        adapter = trained = trained_parameters(shape, training)
    body = shape.body + adapter + held_parameters(shape, run)
    forward, backward = flops_per_token(body, trained)

    width = sequence_width(run, prompt)
    groups = training.buffers * training.prompts_per_buffer
    rows = groups * training.group_size
    response = decoded_tokens(sampler, prompt, training.generation_length, run.block_length)

    # Demonstrations are given, not sampled.
    sampled = 0
    if not method_class(run.algorithm).demonstrations:
        sampled = rows * response
        # Without dropout the rows of a group share their first pass: nothing but the prompt differs yet.
        if not training.rollout_dropout:
            sampled -= (rows - groups) * width * _guided(sampler)

    # Rounded up, because the end is always validated.
    validations = 0
    if training.validate_every:
        validations = math.ceil(training.buffers / training.validate_every)
    validated = validations * run.task_settings.get("validation", 0) * response

    updates = training.updates_per_buffer
    scorings = passes.prepare + updates * passes.refresh
    scored = rows * scorings * width
    updated = rows * updates * passes.update * width
    recomputed = updated if checkpointing else 0
    return {
        "sampling": sampled * forward,
        "validating": validated * forward,
        "scoring": scored * forward,
        "updating": updated * (forward + backward),
        "recomputing": recomputed * forward,
    }


def evaluation_flops(
    shape: Shape,
    run: RunSpec,
    evaluation: EvaluationSpec,
    prompt: int,
    examples: int,
) -> float:
    """Return the FLOPs of an evaluation: every example at every length with every sampler."""
    adapter = 0
    if run.trains and run.training.lora_rank:
        adapter = trained_parameters(shape, run.training) + held_parameters(shape, run)
    return decoding_flops(shape.body + adapter, evaluation, prompt, examples)


def decoding_flops(weights: int, evaluation: EvaluationSpec, prompt: int, examples: int) -> float:
    """Return the FLOPs of an evaluation of a policy whose body and adapter have this many weights."""
    forward, _ = flops_per_token(weights, 0)
    tokens = 0
    for sampler in evaluation.samplers.values():
        for length in evaluation.lengths:
            tokens += decoded_tokens(sampler, prompt, length, evaluation.block_length)
    return examples * evaluation.samples_per_problem * tokens * forward


def hours(flops: dict[str, float], cost: Hardware) -> float:
    """Return the hours of one GPU (or CPU) for operations by kind, at the throughput assumed in `cost`."""
    # Decoding has its own utilisation, on GPUs below that of scoring and updates.
    seconds = 0.0
    for kind, operations in flops.items():
        utilisation = cost.training_utilisation
        if kind in ("sampling", "validating"):
            utilisation = cost.decoding_utilisation
        seconds += operations / utilisation
    return seconds / (cost.peak_tflops * 1e12) / 3600


def _guided(sampler: Sampler) -> int:
    """Return the passes per denoising step: classifier-free guidance needs a second, unconditional one."""
    return 2 if sampler.guidance else 1
