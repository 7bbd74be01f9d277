"""The base models: made here, published, or in a folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from unmask.config.kinds import Beta, Block, Count, Name, NonNegative, Positive, Share, refuse


def _ascending(values: list[float]) -> list[float]:
    if values != sorted(values):
        raise refuse(f"{values} should be the lower value, then the higher")
    return values


class Pretraining(Block):
    """How a model made here learns its language: masked denoising on a mixture of demonstrations."""

    first_part: Share = Field(description="share of the updates that belong to the first part")
    first_share: Share = Field(description="share of right demonstrations in it; the others take a shortcut")
    right_share: Share = Field(description="share of right demonstrations after it")
    demonstrations: Count = Field(description="distinct demonstrations to train on")
    batch_size: Count
    learning_rate: Positive = Field(description="of AdamW, for embeddings, head and norms")
    muon_learning_rate: Positive = Field(description="of Muon, for the matrices of the body")
    adam_beta2: Beta
    weight_decay: NonNegative
    updates: Count
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of products and activations; weights and their optimiser are float32"
    )
    competence: Share = Field(description="lowest mean validation reward after the first part")
    gate: Annotated[list[Share], AfterValidator(_ascending)] = Field(
        min_length=2, max_length=2, description="lowest and highest mean validation reward of the finished base"
    )


# What a model has once, however many tasks it learns.
ONCE = ("updates", "learning_rate", "muon_learning_rate", "adam_beta2", "weight_decay", "dtype")


class ScratchModel(Block):
    """A small model trained from scratch: one for each seed and task, or for each seed alone if it is shared."""

    source: Literal["scratch"]
    family: Literal["llada", "dream"] = Field(default="llada", description="dream predicts position d at d − 1")
    shared: bool = Field(default=False, description="one model learns all the tasks under `pretraining`")
    hidden_size: Count
    layers: Count
    heads: Count
    mlp_size: Count
    rope_theta: Positive
    pretraining: dict[Name, Pretraining] = Field(min_length=1, description="by task")

    @model_validator(mode="after")
    def _heads_fit(self) -> ScratchModel:
        if self.hidden_size % (2 * self.heads):
            raise refuse(f"hidden_size {self.hidden_size} is not an even multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _tasks_agree(self) -> ScratchModel:
        first, *others = self.pretraining.values()
        for key in ONCE if self.shared else ():
            if any(getattr(other, key) != getattr(first, key) for other in others):
                raise refuse(f"a shared model has one {key}; give it the same value for every task")
        return self


class HubModel(Block):
    """A published checkpoint at a pinned revision."""

    source: Literal["hub"]
    repository: str
    revision: str = Field(description="commit, 40 hexadecimal digits")


class LocalModel(Block):
    """A checkpoint in a folder, in the published layout."""

    source: Literal["local"]
    path: str = Field(description="the folder, with config.json, weights as safetensors and tokenizer")
