"""What every trained run can be set to, whatever its method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unmask.config.kinds import Beta, Block, Count, Distinct, Name, NonNegative, Positive, Share, Whole

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Training(Block):
    """Settings that every trained run has, whatever its method."""

    buffers: Count = Field(description="rollout buffers filled in the whole run")
    updates_per_buffer: Count = Field(description="gradient steps on each buffer (F in DMPO, μ in d1)")
    prompts_per_buffer: Count = Field(description="prompts in a buffer, over all processes")
    prompts_at_once: Count = Field(
        description="prompts whose rollouts are decoded together, from one stream of random numbers; processes share "
        "the prompts of a buffer by so many"
    )
    group_size: Count = Field(description="responses per prompt (N in DMPO, G in d1); 1 only for demonstrations")
    generation_length: Count = Field(description="tokens of a response while training")
    sampler: Name = Field(description="a name under `samplers`: how rollouts are decoded")
    temperature: NonNegative = Field(description="sampling temperature of rollouts")
    learning_rate: Positive
    sampler_learning_rate: Positive = Field(description="of an adaptive sampler's head")
    schedule: Literal["constant", "cosine", "linear"] = Field(
        description="of the learning rate; cosine ends at a tenth, linear at zero"
    )
    warmup: Share = Field(description="share of the updates with a linearly growing learning rate")
    adam_beta1: Beta
    adam_beta2: Beta
    weight_decay: NonNegative
    gradient_clip: Positive = Field(description="largest norm of the gradient")
    lora_rank: Whole = Field(description="rank of the adapter; 0 trains every parameter")
    lora_alpha: Count
    lora_dropout: Share
    lora_targets: Annotated[list[Projection], Distinct] = Field(min_length=1, description="what gets an adapter")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        description="numbers of the base model; auto is bfloat16 on a GPU and float32 elsewhere. Adapters are float32"
    )
    quantisation: Literal["none", "nf4"] = Field(
        description="of the base model's matrices: nf4 is four bits, by bitsandbytes, on a CUDA device"
    )
    rollout_dropout: bool = Field(
        description="adapter dropout also while sampling and in old log-probabilities, as in the released codes; the "
        "reference never has it"
    )
    prefill: bool = Field(
        description="prompts of rollouts open the response as those of evaluations do; false: the policy writes it all"
    )
    max_prompt_length: Whole = Field(
        description="tokens of a prompt in training; longer ones lose their beginning, and are counted. 0: none is cut"
    )
    mask_padding: bool = Field(description="hide left padding from attention")
    reference_sync: Whole = Field(description="updates after which the reference moves to the policy; 0 is never")
    reference_mix: Annotated[float, Field(gt=0, le=1)] = Field(
        description="how far: the reference becomes this share of the policy and the rest of the old reference"
    )
    merge_start: bool = Field(
        description="hold the adapter of `start_from` as part of the model and train a fresh one on top, as with the "
        "merged checkpoints of the released codes; otherwise its training continues"
    )
    rows_per_forward: Count = Field(
        description="sequences in a forward and backward pass, masked copies among them; dropout draws anew for each"
    )
    activation_checkpointing: bool = Field(
        description="keep no activations inside a layer, compute them a second time for the gradient"
    )
    validate_every: Whole = Field(
        description="buffers between two looks at the validation split; the best policy there is kept. 0: the last"
    )
