"""Settings of the trainer, shared by all methods."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unmask.config.schema.types import (
    AsWritten,
    Beta,
    Count,
    Distinct,
    Fraction,
    Name,
    NonNegative,
    Positive,
    Values,
    Whole,
)

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


NUMBER_FORMAT = ("dtype", "quantisation")  # settings that decide the number format of the base model's weights


class Training(AsWritten):
    """Settings of every training run, whatever its method."""

    # Rollouts: how many responses are sampled, from which prompts, and how.
    buffers: Count = Field(description="number of rollout buffers in the whole run")
    updates_per_buffer: Count = Field(description="gradient steps on each buffer")
    prompts_per_buffer: Count = Field(description="prompts in a buffer, over all processes")
    prompts_per_decode_batch: Count = Field(
        description="prompts whose rollouts a process decodes at once; further ones wait until a response has ended. "
        "Changes no random draw"
    )
    group_size: Count = Field(description="responses per prompt; 1 only for demonstrations")
    generation_length: Count = Field(description="response length in training [tokens]")
    sampler: Name = Field(description="a name under `samplers`: how rollouts are decoded")
    temperature: NonNegative = Field(description="sampling temperature of rollouts")

    # Optimiser (AdamW).
    learning_rate: Positive = Field(description="of AdamW, after warm-up")
    sampler_learning_rate: Positive = Field(
        description="of an adaptive sampler's head; our choice, DiFFPO's is not public"
    )
    schedule: Literal["constant", "cosine", "linear"] = Field(
        description="of the learning rate after warm-up; cosine ends at a tenth, linear at zero"
    )
    warmup_ratio: Fraction = Field(description="share of the updates with linear warm-up")
    adam_beta1: Beta = Field(description="decay of the mean of gradients")
    adam_beta2: Beta = Field(description="decay of the mean of squared gradients")
    weight_decay: NonNegative = Field(description="decoupled, as AdamW has it")
    max_grad_norm: Positive = Field(description="maximum norm of the gradient")

    # Policy: LoRA adapter and numerical precision.
    lora_rank: Whole = Field(description="rank of the adapter; 0 trains every parameter")
    lora_alpha: Count = Field(description="scale of the adapter: its output counts alpha / rank times")
    lora_dropout: Fraction = Field(description="dropout on the adapter's input while training")
    lora_targets: Annotated[list[Projection], Distinct] = Field(min_length=1, description="projections with an adapter")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        description="of the base model; auto is bfloat16 on a GPU and float32 elsewhere. Adapters are float32"
    )
    quantisation: Literal["none", "nf4"] = Field(
        description="of the base model's matrices; nf4 is 4 bits with bitsandbytes and needs a CUDA device"
    )

    # Choices in which the papers and their released codes differ (docs/method/fidelity.md).
    rollout_dropout: bool = Field(
        description="keep LoRA dropout on for rollouts and old log-probabilities, as the released codes do; never for "
        "the reference model"
    )
    prefill: bool = Field(
        description="prompts of rollouts include the response's opening, as in evaluation; false: the policy writes it"
    )
    max_prompt_length: Whole = Field(
        description="tokens; longer training prompts are truncated on the left and counted. 0: no truncation"
    )
    mask_padding: bool = Field(description="hide left padding from attention")
    reference_sync: Whole = Field(
        description="updates between two syncs of the reference model to the policy; 0: never"
    )
    reference_mix: Annotated[float, Field(gt=0, le=1)] = Field(
        description="share of the policy in the synced reference; the rest is the old reference"
    )
    merge_start: bool = Field(
        description="freeze the adapter of `start_from` as part of the model and train a new one on top, as in the "
        "released codes with merged checkpoints; false: continue training that adapter"
    )

    # Memory, and selection of the policy. Settings that change no bit of a result are in `runtime`.
    micro_batch_size: Count = Field(
        description="sequences per forward and backward pass, including masked copies; bounds the memory, and changes "
        "rounding and the draws of dropout. It does not change what a loss averages over"
    )
    validate_every: Whole = Field(
        description="buffers between two validations; the policy that is best on the validation split is kept. 0: the "
        "last policy is kept"
    )

    @classmethod
    def number_format(cls, values: Values) -> Training:
        """Return settings without any but the number format of the base model: those of a run that trains nothing."""
        return cls.model_construct(**{key: values[key] for key in NUMBER_FORMAT})


def training_from(values: Values) -> Training:
    """Return the settings of a spec's training run, or of its base model if there is only the number format."""
    if values.keys() == set(NUMBER_FORMAT):
        return Training.number_format(values)
    return Training(**values)


# What a setting needs to have an effect, as an expression of other settings (validation/unused.py). Other names in it:
# start_from, corpus, rule (of the sampler), and trains_head, true of methods with a `begin` of their own, which decides
# what is frozen. The file of a method may say otherwise (`used_if`). Settings that a preset of config.yaml changes in a
# method's block or a grid have no entry: a change elsewhere would make the preset a mistake.
USED_IF = {
    "sampler_learning_rate": "trains_head and rule == 'adaptive'",
    "rollout_dropout": "lora_rank > 0 and lora_dropout > 0",
    "max_prompt_length": "not corpus",
    "mask_padding": "not corpus",
    "reference_mix": "reference_sync > 0",
    "merge_start": "start_from",
}
