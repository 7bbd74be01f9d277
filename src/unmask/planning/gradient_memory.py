"""GPU memory of a forward pass and of its gradient: activations, casts of LoRA, head and workspace. Torch-free.

Bytes follow from what autograd keeps. The workspace of a layer is the larger of two moments read from the code.
"""

from __future__ import annotations

from unmask.config.schema.training import Training
from unmask.methods import Passes
from unmask.models.logit_chunks import GPU_LOGITS
from unmask.models.shapes import Shape

Parts = dict[str, float]  # bytes by purpose
# Modules that read the same input, so that without dropout one copy of it serves all LoRA adapters there.
SHARED_INPUTS = {
    "q_proj": "norm",
    "k_proj": "norm",
    "v_proj": "norm",
    "gate_proj": "mlp norm",
    "up_proj": "mlp norm",
}


def gradient_pass(
    shape: Shape,
    training: Training,
    passes: Passes,
    rows: int,
    width: int,
    size: int,
    checkpointing: bool,
) -> Parts:
    """Return the bytes that the gradient of `rows` responses adds; all passes count at once unless `passes.apart`."""
    copies = min(passes.copies, passes.update)
    held = passes.update
    # A mean over copies is differentiated `micro_batch_size` sequences at a time; other losses need all passes first.
    if passes.apart:
        copies = held = min(copies, copies_at_once(training, rows))

    calls = max(1, held // max(1, copies))
    sequences = rows * copies  # of one forward pass
    return {
        "activations": activations(shape, training, rows * held, sequences, width, size, checkpointing),
        "casts": casts(shape, training, calls, size, checkpointing),
        "head": head(shape, sequences * training.generation_length, size),
        "workspace": workspace(shape, training.lora_rank > 0, sequences * width, size),
    }


def copies_at_once(training: Training, rows: int) -> int:
    """Return the copies of each row in a forward pass of `micro_batch_size`, as in `Rollouts.copies_at_once`."""
    return max(1, training.micro_batch_size // rows)


def activations(
    shape: Shape,
    training: Training,
    sequences: int,
    at_once: int,
    width: int,
    size: int,
    checkpointing: bool,
) -> int:
    """Return the bytes kept for the gradient of `sequences` passes of `width` tokens; outputs are the response's.

    With activation checkpointing: the input of each layer, and everything of one layer for the `at_once` passes of one
    batch.
    """
    always, asked = kept_by_layer(shape, training, size)
    tokens = sequences * width
    answers = sequences * training.generation_length
    # The last norm sees the response only. It keeps its input in fp32, and if it is trained what it scales too.
    per_number = 4 if training.lora_rank else 8
    last_norm = per_number * answers * shape.hidden
    if checkpointing:
        inputs = shape.layers * tokens * shape.hidden * size
        one_layer = at_once * width * (always + asked)
        return inputs + one_layer + last_norm

    # The last layer computes queries and MLP for the response only, keys and values for every column.
    outputs = (shape.layers - 1) * tokens + answers
    columns = shape.layers * tokens
    return outputs * asked + columns * always + last_norm


def casts(shape: Shape, training: Training, calls: int, size: int, checkpointing: bool) -> int:
    """Return the bytes of LoRA's matrices cast to the base dtype, which every forward pass makes and keeps."""
    if size == 4 or training.lora_rank == 0:
        return 0
    one = size * shape.adapter(training.lora_rank, training.lora_targets)
    # Checkpointed layers make their casts again in the backward pass, one layer at a time.
    if checkpointing:
        return one // shape.layers
    return one * calls


def kept_by_layer(shape: Shape, training: Training, size: int) -> tuple[int, int]:
    """Return the bytes per token that autograd keeps in a layer: at every column, and at those with an output.

    Norms keep their input in fp32, attention its queries, keys, values, output and normaliser, the gated product its
    three factors. A frozen matrix keeps nothing; LoRA keeps its input, the mask of its dropout, and its low-rank
    product. Modules that read the same input share one copy if there is no dropout.
    """
    norm_input = 4 * shape.hidden
    keys_and_values = 2 * size * shape.kv_width
    always = norm_input + keys_and_values

    queries_and_output = 2 * size * shape.query_width
    normaliser = 4 * shape.heads
    gated_product = 3 * size * shape.mlp
    asked = queries_and_output + normaliser + norm_input + gated_product
    # Norms of the heads keep their input like the others, and if they are trained what they scale too.
    if shape.head_norms:
        per_number = 4 if training.lora_rank else 8
        always += per_number * shape.kv_width
        asked += per_number * shape.query_width

    # Trained matrices keep their input, trained norms what they scale.
    if training.lora_rank == 0:
        always += 8 * shape.hidden
        asked += 8 * shape.hidden + 4 * shape.mlp
        return always, asked

    # k and v come first: they are computed for every column, so that the shared copy counts there.
    targets = sorted(training.lora_targets, key=lambda name: name not in ("k_proj", "v_proj"))
    shared = training.lora_dropout == 0
    seen: set[str] = set()
    for target in targets:
        # The input of o_proj is the attention output, which is kept anyway. With dropout each module has its own input,
        # and a mask of one byte per number.
        source = SHARED_INPUTS.get(target, target)
        per_number = size if shared else size + 1
        if shared and (source in seen or target == "o_proj"):
            per_number = 0
        seen.add(source)

        inputs, _ = shape.projections[target]
        kept = per_number * inputs + size * training.lora_rank
        if target in ("k_proj", "v_proj"):
            always += kept
        else:
            asked += kept
    return always, asked


def head(shape: Shape, positions: int, size: int) -> int:
    """Return the bytes of the head on `positions`: logits of one part, hidden states and their gradients."""
    # A part of the logits exists in the base dtype and twice in fp32 (models/fused_logprobs.py).
    logits = min(GPU_LOGITS, positions * shape.vocabulary)
    of_logits = logits * (8 + size)
    of_states = 3 * positions * shape.hidden * size
    return of_logits + of_states


def workspace(shape: Shape, lora: bool, tokens: int, size: int) -> int:
    """Return the peak of temporary bytes in a layer, reached at its second wide matrix.

    With LoRA it includes three results of that width. The backward pass holds less there: four gradients.
    """
    per_token = 3 * shape.mlp + 2 * shape.hidden
    if lora:
        per_token = 5 * shape.mlp + 3 * shape.hidden
    return tokens * size * per_token
