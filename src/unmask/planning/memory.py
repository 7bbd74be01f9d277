"""Peak GPU memory of a run, estimated part by part from its settings. Torch-free, for `plan`.

Bytes follow from the tensors that the code holds: the base model in its dtype; adapter, gradients, AdamW's moments and
the reference in fp32; activations that autograd keeps for the gradient. The workspace of a layer is the larger of two
moments read from the code. Fragmentation of the allocator is not included.
"""

from __future__ import annotations

from typing import Any

from unmask.config.schema.scales import Hardware
from unmask.config.schema.training import Training
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.models.logit_chunks import GPU_LOGITS
from unmask.models.shapes import Shape
from unmask.planning.flops import Passes, active_block, held_parameters, passes_of, sequence_width, trained_parameters

Parts = dict[str, float]  # bytes by purpose
CONTEXT = 1.5e9  # bytes of CUDA, cuBLAS and NCCL: a guess
# Bytes per weight: four bits, and double-quantised scales, one byte for 64 weights and four bytes for 256 of those.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)


def item_size(run: RunSpec, cost: Hardware) -> int:
    """Return the bytes per number of the base model; dtype auto is bfloat16 on a GPU, else float32."""
    dtype = run.training["dtype"]
    return 2 if dtype == "bfloat16" or (dtype == "auto" and cost.gpu_memory) else 4


def weights(shape: Shape, run: RunSpec, cost: Hardware) -> float:
    """Return the bytes of the base model; `quantisation: nf4` holds the matrices of its layers in four bits."""
    # Embedding, head, norms and biases stay in the model's dtype.
    quantised = shape.layers * sum(rows * columns for rows, columns in shape.projections.values())
    if run.training["quantisation"] == "none":
        quantised = 0
    return (shape.parameters - quantised) * item_size(run, cost) + quantised * NF4


def training_memory(shape: Shape, run: RunSpec, cost: Hardware, gpus: int = 1) -> dict[str, Parts]:
    """Return the bytes that one GPU holds in each phase of a training run that `gpus` share evenly."""
    t, size = Training(**run.training), item_size(run, cost)
    trained, width = trained_parameters(shape, t), sequence_width(run, cost.prompt_tokens)
    adapters = trained + held_parameters(shape, run)  # not used in full fine-tuning

    # Held in all phases. Everything that is trained is in fp32: small steps would be lost in bfloat16.
    held: Parts = {
        "weights": weights(shape, run, cost),
        "adapter": 4 * adapters * (t.lora_rank > 0),
        "reference": 4 * trained,
        "moments": 8 * trained,
        "best": 4 * trained * (t.validate_every > 0),
        "context": CONTEXT if cost.gpu_memory else 0,
    }

    # A GPU works on its share of the buffer: `rows_per_forward` rows per pass, `prompts_at_once` groups in decoding.
    share = t.prompts_per_buffer * t.group_size // gpus
    rows, together = min(t.rows_per_forward, share), min(t.prompts_at_once * t.group_size, share)
    passes = passes_of(run)

    # Gradients live from the first backward pass of an update to the end of its optimiser step.
    gradients: Parts = {"gradients": 4 * trained}
    phases = {
        "gradient": held | gradients | gradient_pass(shape, t, passes, rows, width, size),
        "optimiser step": held | gradients | {"workspace": 4 * trained},
    }

    if passes.prepare:
        scored = rows * min(passes.scored, _at_once(t, rows))
        needed = {"workspace": workspace(shape, t.lora_rank > 0, scored * width, size)}
        # `Policy.narrowed` copies LoRA's matrices to the base dtype, and the trained ones again for the reference.
        if t.lora_rank and size < 4:
            needed["narrowed"] = size * (trained + adapters)
        phases["scoring"] = held | needed | {"head": head(shape, scored * t.generation_length, size)}

    # SFT decodes only to validate.
    if run.algorithm != "sft" or t.validate_every:
        narrowed: Parts = {"narrowed": size * adapters if t.lora_rank and size < 4 else 0}
        block = active_block(run.sampler, t.generation_length, run.block_length)
        phases["rollouts"] = held | narrowed | decoding(shape, t, run.sampler, together, width, block, size)
    return phases


def evaluation_memory(shape: Shape, run: RunSpec, evaluation: EvaluationSpec, cost: Hardware) -> Parts:
    """Return the bytes that a GPU holds in the largest batch of an evaluation."""
    t, size = Training(**run.training) if run.trains else None, item_size(run, cost)
    held: Parts = {"weights": weights(shape, run, cost), "context": CONTEXT if cost.gpu_memory else 0}
    if t and t.lora_rank:
        adapters = trained_parameters(shape, t) + held_parameters(shape, run)
        held["adapter"] = (4 if size == 4 else 4 + size) * adapters  # with the copies of `Policy.narrowed`

    # The longest response needs most; which sampler does depends on its cache, blocks and guidance.
    longest, rows = max(evaluation.lengths), evaluation.rows_per_batch
    batches = []
    for sampler in evaluation.samplers.values():
        block = active_block(sampler, longest, evaluation.block_length)
        batches.append(decoding(shape, t, sampler, rows, cost.prompt_tokens + longest, block, size))
    return held | max(batches, key=total)


def gradient_pass(shape: Shape, training: Training, passes: Passes, rows: int, width: int, size: int) -> Parts:
    """Return the bytes that the gradient of `rows` responses adds; all passes count at once unless `passes.apart`."""
    copies, held, length = min(passes.copies, passes.update), passes.update, training.generation_length
    # A mean over copies is differentiated `rows_per_forward` sequences at a time; other losses need all passes first.
    if passes.apart:
        copies = held = min(copies, _at_once(training, rows))
    return {
        "activations": activations(shape, training, rows * held, rows * copies, width, size),
        "casts": casts(shape, training, max(1, held // max(1, copies)), size),
        "head": head(shape, rows * copies * length, size),
        "workspace": workspace(shape, training.lora_rank > 0, rows * copies * width, size),
    }


def _at_once(training: Training, rows: int) -> int:
    """Return the copies of each row in a forward pass of `rows_per_forward`, as in `Rollouts.copies_at_once`."""
    return max(1, training.rows_per_forward // rows)


def activations(shape: Shape, training: Training, sequences: int, at_once: int, width: int, size: int) -> int:
    """Return the bytes kept for the gradient of `sequences` passes of `width` tokens; outputs are the response's.

    With activation checkpointing: the input of each layer, and everything of one layer for the `at_once` passes of one
    batch.
    """
    always, asked = kept_by_layer(shape, training, size)
    answers = sequences * training.generation_length
    # The last norm sees the response only. It keeps its input in fp32, and if it is trained what it scales too.
    last_norm = (4 if training.lora_rank else 8) * answers * shape.hidden
    if training.activation_checkpointing:
        inputs = shape.layers * sequences * width * shape.hidden * size
        return inputs + last_norm + at_once * width * (always + asked)

    # The last layer computes queries and MLP for the response only, keys and values for every column.
    tokens = sequences * width
    return ((shape.layers - 1) * tokens + answers) * asked + shape.layers * tokens * always + last_norm


def casts(shape: Shape, training: Training, calls: int, size: int) -> int:
    """Return the bytes of LoRA's matrices cast to the base dtype, which every forward pass makes and keeps."""
    if size == 4 or training.lora_rank == 0:
        return 0
    one = size * shape.adapter(training.lora_rank, training.lora_targets)
    # Checkpointed layers make their casts again in the backward pass, one layer at a time.
    return one // shape.layers if training.activation_checkpointing else one * calls


def kept_by_layer(shape: Shape, training: Training, size: int) -> tuple[int, int]:
    """Return the bytes per token that autograd keeps in a layer: at every column, and at those with an output.

    Norms keep their input in fp32, attention its queries, keys, values, output and normaliser, the gated product its
    three factors. A frozen matrix keeps nothing; LoRA keeps its input, the mask of its dropout, and its low-rank
    product. Modules that read the same input share one copy if there is no dropout.
    """
    d, f, kv = shape.hidden, shape.mlp, shape.kv_width
    # Every column: input of the first norm, keys and values.
    always = 4 * d + 2 * size * kv
    # Columns with an output: queries, attention output, normaliser per head, input of the second norm, gated product.
    asked = 2 * size * d + 4 * shape.heads + 4 * d + 3 * size * f
    # Trained matrices keep their input, trained norms what they scale.
    if training.lora_rank == 0:
        return always + 8 * d, asked + 8 * d + 4 * f

    # LoRA: which modules read the same input, so that without dropout one copy serves all of them.
    seen: set[str] = set()
    reads = dict.fromkeys(("q_proj", "k_proj", "v_proj"), "norm") | dict.fromkeys(("gate_proj", "up_proj"), "mlp norm")
    # k and v come first: they are computed for every column, so that the shared copy counts there.
    for target in sorted(training.lora_targets, key=lambda name: name not in ("k_proj", "v_proj")):
        source = reads.get(target, target)
        # The input of o_proj is the attention output, which is kept anyway. With dropout each module has its own input,
        # and a mask of one byte per number.
        whole = training.lora_dropout == 0
        given = whole and (source in seen or target == "o_proj")
        seen.add(source)
        wide = 0 if given else (size if whole else size + 1) * shape.projections[target][0]
        if target in ("k_proj", "v_proj"):
            always += wide + size * training.lora_rank
        else:
            asked += wide + size * training.lora_rank
    return always, asked


def decoding(
    shape: Shape, training: Training | None, sampler: dict[str, Any], rows: int, width: int, block: int, size: int
) -> Parts:
    """Return the bytes that decoding `rows` responses at a time adds; `training` is None for a base model."""
    lora = training is not None and training.lora_rank > 0
    # `Policy.merged` folds the adapter into copies of the matrices in fp32 only: in bfloat16 rounding would lose it.
    merged = lora and size == 4
    # Keys and values of all layers; guidance caches the unconditional passes too.
    store = 2 * shape.layers * rows * width * shape.kv_width * size * (2 if sampler["guidance"] else 1)
    return {
        "merged": 4 * shape.targeted(training.lora_targets) if training and merged else 0,
        "cache": 0 if sampler["cache"] == "none" else 2 * store,  # and a copy when a row leaves
        "head": head(shape, rows * block, size),
        "workspace": workspace(shape, lora and not merged, rows * width, size),
    }


def head(shape: Shape, positions: int, size: int) -> int:
    """Return the bytes of the head on `positions`: logits of one part, hidden states and their gradients."""
    # A part of the logits exists in the base dtype and twice in fp32 (models/fused_logprobs.py).
    logits = min(GPU_LOGITS, positions * shape.vocabulary)
    return logits * (8 + size) + 3 * positions * shape.hidden * size


def workspace(shape: Shape, lora: bool, tokens: int, size: int) -> int:
    """Return the peak of temporary bytes in a layer, reached at its second wide matrix.

    With LoRA it includes three results of that width. The backward pass holds less there: four gradients.
    """
    per_token = 5 * size * shape.mlp + 3 * size * shape.hidden
    plain = 3 * size * shape.mlp + 2 * size * shape.hidden
    return tokens * (per_token if lora else plain)


def total(parts: Parts) -> float:
    """Return the sum of all parts in GB (10^9 bytes)."""
    return sum(parts.values()) / 1e9
