"""Peak GPU memory of a run, estimated part by part from its settings. Torch-free, for `plan`.

Bytes follow from the tensors that the code holds: the base model in its dtype; adapter, gradients, AdamW's moments and
the reference in fp32; activations that autograd keeps for the gradient. The workspace of a layer is the larger of two
moments read from the code. Fragmentation of the allocator is not included.
"""

from __future__ import annotations

from unmask.config.schema.introspection import method_class
from unmask.config.schema.samplers import Sampler
from unmask.config.schema.scales import Hardware
from unmask.config.schema.training import Training
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.methods import Passes
from unmask.models.logit_chunks import GPU_LOGITS
from unmask.models.shapes import Shape
from unmask.planning.flops import active_block, held_parameters, passes_of, sequence_width, trained_parameters

Parts = dict[str, float]  # bytes by purpose
CONTEXT = 1.5e9  # bytes of CUDA, cuBLAS and NCCL: a guess
# Bytes per weight: four bits, and double-quantised scales, one byte for 64 weights and four bytes for 256 of those.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
# Modules that read the same input, so that without dropout one copy of it serves all LoRA adapters there.
SHARED_INPUTS = {
    "q_proj": "norm",
    "k_proj": "norm",
    "v_proj": "norm",
    "gate_proj": "mlp norm",
    "up_proj": "mlp norm",
}


def item_size(run: RunSpec, cost: Hardware) -> int:
    """Return the bytes per number of the base model; dtype auto is bfloat16 on a GPU, else float32."""
    dtype = run.training.dtype
    if dtype == "auto":
        dtype = "bfloat16" if cost.gpu_memory else "float32"
    return 2 if dtype == "bfloat16" else 4


def weights(shape: Shape, run: RunSpec, cost: Hardware) -> float:
    """Return the bytes of the base model; `quantisation: nf4` holds the matrices of its layers in four bits."""
    size = item_size(run, cost)
    if run.training.quantisation == "none":
        return shape.parameters * size

    # Embedding, head, norms and biases stay in the model's dtype.
    quantised = shape.targeted(shape.projections)
    return (shape.parameters - quantised) * size + quantised * NF4


def training_memory(
    shape: Shape,
    run: RunSpec,
    cost: Hardware,
    gpus: int = 1,
    checkpointing: bool = False,
) -> dict[str, Parts]:
    """Return the bytes that one GPU holds in each phase of a training run that `gpus` share evenly.

    `checkpointing` is the runtime setting `activation_checkpointing`.
    """
    training = run.training
    size = item_size(run, cost)
    width = sequence_width(run, cost.prompt_tokens)
    passes = passes_of(run)
    lora = training.lora_rank > 0
    trained = trained_parameters(shape, training)
    adapters = trained + held_parameters(shape, run)  # not used in full fine-tuning
    # `Policy.narrowed` copies LoRA's matrices to the base dtype.
    narrowed = size * adapters if lora and size < 4 else 0

    # Several GPUs that train all weights shard them with all that belongs to them (models/sharding.py).
    shards = 1 if lora else gpus
    gathered_for_gradients, gathered = gathered_weights(shape) if shards > 1 else ({}, {})

    # Held in all phases. Everything that is trained is in fp32: small steps would be lost in bfloat16.
    held: Parts = {
        "weights": weights(shape, run, cost) / shards,
        "adapter": 4 * adapters if lora else 0,
        "reference": 4 * trained / shards,
        "moments": 8 * trained / shards,
        "best": 4 * trained / shards if training.validate_every else 0,
        "context": CONTEXT if cost.gpu_memory else 0,
    }

    # A GPU works on its share of the buffer: `micro_batch_size` rows per pass, and groups of `prompts_per_decode_batch`
    # prompts in decoding.
    share = training.prompts_per_buffer * training.group_size // gpus
    rows = min(training.micro_batch_size, share)
    decoded = min(training.prompts_per_decode_batch * training.group_size, share)

    # Gradients live from the first backward pass of an update to the end of its optimizer step.
    gradients: Parts = {"gradients": 4 * trained / shards}
    one_pass = gradient_pass(shape, training, passes, rows, width, size, checkpointing)
    phases = {
        "gradient": held | gradients | gathered_for_gradients | one_pass,
        "optimizer step": held | gradients | {"workspace": 4 * trained / shards},
    }

    if passes.prepare:
        scored = rows * min(passes.scored, _at_once(training, rows))
        # The trained matrices are copied again for the reference.
        narrowed_twice = narrowed + size * trained if narrowed else 0
        phases["scoring"] = (
            held
            | gathered
            | {
                "workspace": workspace(shape, lora, scored * width, size),
                "narrowed": narrowed_twice,
                "head": head(shape, scored * training.generation_length, size),
            }
        )

    # A method that learns from demonstrations decodes only to validate.
    if not method_class(run.algorithm).demonstrations or training.validate_every:
        sampler = run.rollout_sampler
        block = active_block(sampler, training.generation_length, run.block_length)
        batch = decoding(shape, training, sampler, decoded, width, block, size)
        phases["rollouts"] = held | gathered | {"narrowed": narrowed} | batch
    return phases


def gathered_weights(shape: Shape) -> tuple[Parts, Parts]:
    """Return the bytes that a GPU gathers of a sharded model, next to its shards: for a gradient, and without one.

    In gradient passes that is the unit of embedding and head, its gradient and the buffer which reduces it, and as much
    of one layer, with the weights of the next layer under way. Without gradients it is the whole model, and a buffer
    for its largest unit.
    """
    layer = shape.body / shape.layers
    return {"gathered": 4 * (3 * shape.ends + 4 * layer)}, {"gathered": 4 * (shape.parameters + shape.ends)}


def evaluation_memory(shape: Shape, run: RunSpec, evaluation: EvaluationSpec, cost: Hardware) -> Parts:
    """Return the bytes that a GPU holds in the largest batch of an evaluation."""
    training = run.training if run.trains else None
    size = item_size(run, cost)
    held: Parts = {
        "weights": weights(shape, run, cost),
        "context": CONTEXT if cost.gpu_memory else 0,
    }
    if training and training.lora_rank:
        adapters = trained_parameters(shape, training) + held_parameters(shape, run)
        per_number = 4 if size == 4 else 4 + size  # with the copies of `Policy.narrowed`
        held["adapter"] = per_number * adapters

    # The longest response needs most; which sampler does depends on its cache, blocks and guidance.
    longest = max(evaluation.lengths)
    width = cost.prompt_tokens + longest
    batches = []
    for sampler in evaluation.samplers.values():
        block = active_block(sampler, longest, evaluation.block_length)
        batch = decoding(shape, training, sampler, evaluation.rows_per_batch, width, block, size)
        batches.append(batch)
    return held | max(batches, key=total)


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
        copies = held = min(copies, _at_once(training, rows))

    calls = max(1, held // max(1, copies))
    sequences = rows * copies  # of one forward pass
    return {
        "activations": activations(shape, training, rows * held, sequences, width, size, checkpointing),
        "casts": casts(shape, training, calls, size, checkpointing),
        "head": head(shape, sequences * training.generation_length, size),
        "workspace": workspace(shape, training.lora_rank > 0, sequences * width, size),
    }


def _at_once(training: Training, rows: int) -> int:
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


def decoding(
    shape: Shape,
    training: Training | None,
    sampler: Sampler,
    rows: int,
    width: int,
    block: int,
    size: int,
) -> Parts:
    """Return the bytes that decoding `rows` responses at a time adds; `training` is None for a base model."""
    adapter_is_separate = False
    merged = 0
    if training and training.lora_rank:
        # `Policy.merged` folds the adapter into copies of the matrices, in fp32 only: bfloat16 would round it away.
        if size == 4:
            merged = 4 * shape.targeted(training.lora_targets)
        else:
            adapter_is_separate = True

    # Keys and values of all layers, and a copy of them when a row leaves; guidance caches the unconditional passes too.
    cache = 0
    if sampler.cache != "none":
        keys_and_values = 2 * rows * width * shape.kv_width * size
        cache = 2 * shape.layers * keys_and_values
        if sampler.guidance:
            cache *= 2
    return {
        "merged": merged,
        "cache": cache,
        "head": head(shape, rows * block, size),
        "workspace": workspace(shape, adapter_is_separate, rows * width, size),
    }


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


def total(parts: Parts) -> float:
    """Return the sum of all parts in GB (10^9 bytes)."""
    return sum(parts.values()) / 1e9
