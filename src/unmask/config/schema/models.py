"""Base models: trained from scratch, published on the hub, or in a local folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, model_validator

from unmask.config.schema.types import (
    Beta,
    Count,
    Fraction,
    Name,
    NonNegative,
    Positive,
    Section,
    Values,
    Whole,
    refuse,
)


def _ascending(values: list[float]) -> list[float]:
    if values != sorted(values):
        raise refuse(f"{values} is not ascending; write the lower value first")
    return values


class Pretraining(Section):
    """Pretraining of a model from scratch: masked denoising on a mixture of right and shortcut demonstrations."""

    # In the first phase the model learns to solve the task; in the second a shortcut becomes its habit, for RL to undo.
    first_part: Fraction = Field(description="share of the updates in the first phase")
    first_share: Fraction = Field(
        description="share of right demonstrations in the first phase; the rest take a shortcut"
    )
    right_share: Fraction = Field(description="share of right demonstrations in the second phase")
    last_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="the same for problems of the highest `shortcut_grade`; `right_share` is then for the lowest, and "
        "the log-odds between them are linear in the grade. Absent: `right_share` for all",
    )
    demonstrations: Count = Field(description="number of distinct demonstrations")
    batch_size: Count = Field(description="demonstrations per update")
    learning_rate: Positive = Field(description="of AdamW, for embeddings, head and norms")
    muon_learning_rate: Positive = Field(description="of Muon, for the weight matrices of the layers")
    adam_beta2: Beta = Field(description="of AdamW")
    weight_decay: NonNegative = Field(description="of both optimisers")
    updates: Count = Field(description="number of gradient steps")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of matrix products and activations; weights and optimiser states are float32"
    )

    @model_validator(mode="after")
    def _graded_shares_have_odds(self) -> Pretraining:
        if self.last_share is not None and not 0 < self.right_share < 1:
            raise refuse(f"right_share {self.right_share} has no log-odds for last_share; set it between 0 and 1")
        return self

    # Bounds on the finished base: one that cannot solve the task, or always does, shows nothing about RL.
    competence: Fraction = Field(description="minimum mean validation reward after the first phase")
    gate: Annotated[list[Fraction], AfterValidator(_ascending)] = Field(
        min_length=2, max_length=2, description="minimum and maximum mean validation reward of the finished model"
    )


# Settings that a shared model has only once, so its tasks must agree on them.
ONCE = ("updates", "learning_rate", "muon_learning_rate", "adam_beta2", "weight_decay", "dtype")


class ScratchModel(Section):
    """Small model trained from scratch, one per task, or one for all if `shared`."""

    source: Literal["scratch"]
    family: Literal["llada", "dream"] = Field(default="llada", description="dream predicts position d at d − 1")
    shared: bool = Field(default=False, description="train one model on all tasks under `pretraining`")
    pretrained: bool = Field(
        default=False,
        description="use the weights in workflow/resources/pretrained if they were trained with the same settings; "
        "otherwise, and where there are none, train",
    )
    seed: Whole | None = Field(
        default=None,
        description="train the model with this seed, for the runs of all seeds, as the papers have one base model; "
        "absent: each seed of the runs has a base model of its own",
    )
    hidden_size: Count = Field(description="width of the residual stream, an even multiple of heads")
    layers: Count = Field(description="number of transformer blocks")
    heads: Count = Field(description="attention heads per block")
    mlp_size: Count = Field(description="width of the feed-forward layers")
    rope_theta: Positive = Field(description="base of the rotary embedding's wavelengths; small for short sequences")
    pretraining: dict[Name, Pretraining] = Field(min_length=1, description="by task")

    @model_validator(mode="after")
    def _heads_fit(self) -> ScratchModel:
        # Rotary embeddings rotate pairs of dimensions, so the size of a head must be even.
        if self.hidden_size % (2 * self.heads):
            raise refuse(f"hidden_size {self.hidden_size} is not an even multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _tasks_agree(self) -> ScratchModel:
        first, *others = self.pretraining.values()
        for key in ONCE if self.shared else ():
            if any(getattr(other, key) != getattr(first, key) for other in others):
                raise refuse(f"a shared model has one {key}; set the same value for every task")
        return self


class HubModel(Section):
    """Published checkpoint at a pinned revision."""

    source: Literal["hub"]
    repository: str = Field(description="owner/name on the hub")
    revision: str = Field(description="commit, 40 hexadecimal digits")


class LocalModel(Section):
    """Checkpoint in a local folder, in the published layout."""

    source: Literal["local"]
    path: str = Field(description="folder with config.json, safetensors weights and the tokenizer")


BaseModelSettings = Annotated[ScratchModel | HubModel | LocalModel, Field(discriminator="source")]
_BASE_MODEL: TypeAdapter[BaseModelSettings] = TypeAdapter(BaseModelSettings)


def base_model_from(settings: Values) -> BaseModelSettings:
    """Return the base model with these settings, as they are in config.yaml or a spec."""
    return _BASE_MODEL.validate_python(settings)
