"""How much computing a run takes, reckoned from its settings before it starts: passes, operations, hours.

Torch-free, for `plan`. Operations are those that `compute.py` counts while a run trains. Where the number of passes
hangs on the data (a response that ends early, a threshold), the most that can be are reckoned with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unmask.config.scales import Cost
from unmask.config.training import Training
from unmask.models.shapes import Shape
from unmask.spec import EvaluationSpec, Run


def flops_a_token(body: int, trained: int) -> tuple[int, int]:
    """Operations of a token's forward and backward pass through a body of so many weights, some of them trained.

    The usual estimate: two operations a weight forward; backward as many again for the activations, and two a trained
    weight. Embedding, head and attention scores are not counted.
    """
    return 2 * body, 2 * body + 2 * trained


@dataclass(frozen=True)
class Passes:
    """Passes of prompt and response through the model for each response of a buffer, beside its sampling."""

    update: int  # with gradient, at each update
    prepare: int = 0  # without gradient, once a buffer
    refresh: int = 0  # without gradient, at each update
    copies: int = 1  # of one response in one forward pass with gradient, if `rows_per_forward` allows
    scored: int = 1  # and in one without
    apart: bool = False  # the loss is a mean over copies, so that the activations of all need not exist at once


def passes_of(run: Run) -> Passes:
    """The passes of a run's method; one that is not known here is taken to score nothing beforehand."""
    own, updates = run.method_settings, run.training["updates_per_buffer"]
    if run.algorithm == "dmpo":
        return _dmpo(run)
    if run.algorithm == "diffu_grpo":
        return Passes(1, 2 * (updates if own["prompt_mask"] else 1))
    if run.algorithm == "coupled_grpo":
        return Passes(3, 2 * 3 * updates)
    if run.algorithm == "diffpo":
        if own["learn"] == "sampler":
            return Passes(0)
        return Passes(2, 2 * 2 * updates) if own["surrogate"] == "two_stage" else Passes(1, 2)
    copies = own.get("copies", 1)
    return Passes(copies, copies=copies)


def _dmpo(run: Run) -> Passes:
    """Old and reference log-probabilities, the current ones of the model baseline, and the copies of the loss."""
    own, updates = run.method_settings, run.training["updates_per_buffer"]
    wddo = own["loss_kind"] == "wddo"
    update = own["copies"] * (2 if wddo else 1)
    if own["loss_kind"] == "reward_only":
        return Passes(update, copies=own["copies"], apart=True)
    scored = own["alpha"] > 0 or own["baseline"] == "model"
    exact = own["likelihood"] == "trajectory"
    each = forward_passes(run.sampler, run.training["generation_length"], run.block_length)
    each = each if exact else own["elbo_copies"]
    return Passes(
        update=update,
        prepare=scored * each * (1 if exact else 2) + wddo * 2 * updates * own["copies"],
        refresh=each * (own["loss_kind"] == "wdce" and own["baseline"] == "model"),
        copies=own["copies"],
        scored=max(own["copies"] * wddo, 1 if exact else own["elbo_copies"]),
        apart=not wddo,
    )


def forward_passes(sampler: dict[str, Any], length: int, block: int) -> int:
    """Denoising steps of a response: the number for top-k, else the most there can be, one a token."""
    block = active_block(sampler, length, block)
    return length // block * -(-block // sampler.get("tokens_per_step", 1))


def active_block(sampler: dict[str, Any], length: int, block: int) -> int:
    """Tokens of a block, or of the whole response for a sampler without blocks."""
    return block if sampler.get("blocks", True) else length


def decoded_tokens(sampler: dict[str, Any], prompt: int, length: int, block: int) -> int:
    """Tokens that pass through the model for one response: whole sequences, or what a cache leaves of them."""
    block = active_block(sampler, length, block)
    blocks = length // block
    later = forward_passes(sampler, length, block) // blocks - 1  # passes of a block after its first
    windows = {
        "none": blocks * (prompt + length),
        "prefix": sum(length - i * block for i in range(blocks)),
        "dual": blocks * block,
    }
    return (blocks * (prompt + length) + later * windows[sampler["cache"]]) * _guided(sampler)


def trained_parameters(shape: Shape, training: Training) -> int:
    """What the optimiser changes: the adapter, or everything."""
    return shape.adapter(training.lora_rank, training.lora_targets) if training.lora_rank else shape.parameters


def held_parameters(shape: Shape, run: Run) -> int:
    """The adapter that a run is trained on top of, taken to be as large as its own; a pass goes through both."""
    training = Training(**run.training)
    merged = run.start_from and training.merge_start and training.lora_rank
    return trained_parameters(shape, training) if merged else 0


def sequence_width(run: Run, prompt: int) -> int:
    """Tokens of a training sequence; a corpus has prompt and response within `generation_length`."""
    return run.training["generation_length"] + (0 if run.corpus else prompt)


def training_flops(shape: Shape, run: Run, prompt: int) -> dict[str, float]:
    """Operations of a whole training by kind, for prompts of so many tokens.

    What `compute.py` counts is their sum without `recomputing`, the second forward pass of activation checkpointing.
    """
    t, passes = Training(**run.training), passes_of(run)
    adapter = t.lora_rank and trained_parameters(shape, t)
    forward, backward = flops_a_token(shape.body + adapter + held_parameters(shape, run), adapter or shape.body)
    width, rows = sequence_width(run, prompt), t.buffers * t.prompts_per_buffer * t.group_size
    sampled = 0
    if run.algorithm != "sft":
        sampled = rows * decoded_tokens(run.sampler, prompt, t.generation_length, run.block_length)
        if not t.rollout_dropout:  # the first pass is one for the whole group
            sampled -= (rows - rows // t.group_size) * width * _guided(run.sampler)
    updated = rows * t.updates_per_buffer * passes.update * width
    looks = -(-t.buffers // t.validate_every) if t.validate_every else 0  # the end is always looked at
    validated = looks * run.task_settings.get("validation", 0)
    return {
        "sampling": sampled * forward,
        "validating": validated * decoded_tokens(run.sampler, prompt, t.generation_length, run.block_length) * forward,
        "scoring": rows * (passes.prepare + t.updates_per_buffer * passes.refresh) * width * forward,
        "updating": updated * (forward + backward),
        "recomputing": updated * forward * t.activation_checkpointing,
    }


def evaluation_flops(shape: Shape, run: Run, evaluation: EvaluationSpec, prompt: int, examples: int) -> float:
    """Operations of an evaluation: every example at every length with every sampler."""
    adapter = 0
    if run.trains and run.training["lora_rank"]:
        adapter = trained_parameters(shape, Training(**run.training)) + held_parameters(shape, run)
    forward, _ = flops_a_token(shape.body + adapter, 0)
    each = [
        decoded_tokens(sampler, prompt, length, evaluation.block_length)
        for sampler in evaluation.samplers.values()
        for length in evaluation.lengths
    ]
    return examples * sum(each) * forward


def hours(flops: dict[str, float], cost: Cost) -> float:
    """Hours of one GPU (or processor) for these operations, at the throughput that the configuration assumes."""
    rates = dict.fromkeys(("sampling", "validating"), cost.decoding_utilisation)
    seconds = sum(value / rates.get(kind, cost.training_utilisation) for kind, value in flops.items())
    return seconds / (cost.peak_tflops * 1e12) / 3600


def _guided(sampler: dict[str, Any]) -> int:
    """Passes a step: classifier-free guidance takes a second one."""
    return 2 if sampler["guidance"] else 1
