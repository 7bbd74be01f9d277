"""Peak GPU memory of a run, estimated part by part from its settings. Torch-free, for `plan`.

Bytes follow from the tensors that the code holds: the base model in its dtype; adapter, gradients, AdamW's moments and
the reference in fp32; activations that autograd keeps for the gradient (planning.gradient_memory). Fragmentation of the
allocator is not included.
"""

from __future__ import annotations

from unmask.config.schema.introspection import method_class
from unmask.config.schema.samplers import Sampler
from unmask.config.schema.scales import Hardware
from unmask.config.schema.training import Training
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.models.shapes import Shape
from unmask.planning.flops import active_block, held_parameters, passes_of, sequence_width, trained_parameters
from unmask.planning.gradient_memory import Parts, copies_at_once, gradient_pass, head, workspace

CONTEXT = 1.5e9  # bytes of CUDA, cuBLAS and NCCL: a guess
# Bytes per weight: four bits, and double-quantised scales, one byte for 64 weights and four bytes for 256 of those.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)


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
        scored = rows * min(passes.scored, copies_at_once(training, rows))
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


def total(parts: Parts) -> float:
    """Return the sum of all parts in GB (10^9 bytes)."""
    return sum(parts.values()) / 1e9
