"""Samplers: how a response is decoded, one class per rule for committing (unmasking) tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, model_validator

from unmask.config.schema.types import Count, Distinct, Fraction, NonNegative, Positive, Section, Values, Whole, refuse

# Added after runs had been stored. Specs omit them at their default, so that the digests of those runs do not change.
LATER = ("blocks", "top_p", "draw_dtype")


class Decoding(Section):
    """Settings common to all samplers, whatever their commit rule."""

    cache: Literal["none", "prefix", "dual"] = Field(
        default="none",
        description="key-value cache while a block is decoded: none, left of the block, or on both sides",
    )
    guidance: NonNegative = Field(
        default=0.0, description="strength of classifier-free guidance; doubles the forward passes"
    )
    forbidden: Annotated[list[Whole], Distinct] = Field(
        default=[], description="token ids that are never drawn, in addition to [MASK]"
    )
    blocks: bool = Field(default=True, description="decode block by block; false: the whole response is one block")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="nucleus sampling: draw from the most probable tokens whose total just exceeds this"
    )
    draw_dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="precision of the draw; bfloat16 is d1's Gumbel-max draw, which never draws rare tokens",
    )

    @property
    def draws_order(self) -> bool:
        """True if the order in which positions are committed is random."""
        return False

    @property
    def changed(self) -> set[str]:
        """Names of the settings common to all samplers that are not at their default."""
        fields = Decoding.model_fields
        return {key for key, field in fields.items() if getattr(self, key) != field.default}

    def values(self) -> Values:
        """Return all settings for a spec, without those in LATER that are at their default."""
        later = {key for key in LATER if getattr(self, key) == type(self).model_fields[key].default}
        return self.model_dump(exclude=later)


class TopK(Decoding):
    """Commit the k best-scored positions of the active block at every denoising step."""

    rule: Literal["top_k"] = "top_k"
    tokens_per_step: Count = Field(description="1 means L steps, 2 means L/2 steps")
    score: Literal["confidence", "entropy", "random"] = Field(
        description="probability of the drawn token; entropy of its distribution, lowest first; or random"
    )

    @property
    def draws_order(self) -> bool:
        """True if the score is random."""
        return self.score == "random"


class RandomOrder(Decoding):
    """Commit one position of the active block per denoising step, in uniformly random order (ROAR in DMPO)."""

    rule: Literal["random_order"] = "random_order"

    @property
    def draws_order(self) -> bool:
        """True: the order is all that this rule decides."""
        return True


class LeftToRight(Decoding):
    """Commit the first masked position at every denoising step, as an autoregressive model does (JustGRPO)."""

    rule: Literal["left_to_right"] = "left_to_right"


class Threshold(Decoding):
    """Commit every token with at least this probability (Fast-dLLM)."""

    rule: Literal["threshold"] = "threshold"
    confidence: Fraction = Field(description="minimum probability of a token that is committed; at least one is")


class Factor(Decoding):
    """Commit the n most probable tokens, with the largest n such that (n + 1)(1 - c_n) < factor (Fast-dLLM)."""

    rule: Literal["factor"] = "factor"
    factor: NonNegative = Field(description="the larger, the more tokens are committed; at least one is")


Proxy = Literal["entropy", "confidence", "margin"]


class EntropyBound(Decoding):
    """Commit positions in the order of `proxy` while their entropies but the largest sum to < gamma (EB-Sampler)."""

    rule: Literal["entropy_bound"] = "entropy_bound"
    gamma: NonNegative = Field(description="nats; 0 commits one token per step")
    proxy: Proxy = Field(description="error estimate by which positions are sorted")


class Adaptive(Decoding):
    """Entropy bound chosen by a trained head (DiFFPO); the paper's values are not public, these settings are ours."""

    rule: Literal["adaptive"] = "adaptive"
    gamma: Positive = Field(description="threshold of an untrained head [nats]")
    gamma_max: Positive = Field(description="largest threshold that the head can choose [nats]")
    choose: Literal["prompt", "block"] = Field(description="once, from the prompt; or again for each block")
    width: Count = Field(description="units of the head's hidden layer")
    proxy: Proxy = Field(description="error estimate by which positions are sorted")

    @model_validator(mode="after")
    def _start_fits(self) -> Adaptive:
        # The head outputs gamma_max · sigmoid(logit), and its bias starts at the logit of gamma / gamma_max.
        if self.gamma >= self.gamma_max:
            raise refuse(f"gamma {self.gamma} is not below gamma_max {self.gamma_max}")
        return self


Sampler = Annotated[
    TopK | RandomOrder | LeftToRight | Threshold | Factor | EntropyBound | Adaptive, Field(discriminator="rule")
]
_SAMPLER: TypeAdapter[Sampler] = TypeAdapter(Sampler)


def sampler_from(settings: Values) -> Sampler:
    """Return the sampler with these settings, as they are in config.yaml or a spec."""
    return _SAMPLER.validate_python(settings)
