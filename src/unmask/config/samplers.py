"""The samplers: how a response is decoded, one block for each rule of committing tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unmask.config.kinds import Block, Count, Distinct, NonNegative, Positive, Share, Whole, refuse

LATER = ("blocks", "top_p", "draw_dtype")  # settings that are younger than stored specs


class Decoding(Block):
    """What every sampler has beside its commit rule."""

    cache: Literal["none", "prefix", "dual"] = Field(
        default="none", description="keys and values reused inside a block: none, left of it, or on both sides"
    )
    guidance: NonNegative = Field(default=0.0, description="w of classifier-free guidance; it doubles the passes")
    forbidden: Annotated[list[Whole], Distinct] = Field(default=[], description="ids never drawn, beside [MASK]")
    blocks: bool = Field(default=True, description="block after block; false: the whole response is one block")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="draw from the most probable tokens, up to the one that takes their share above this"
    )
    draw_dtype: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="numbers of the draw; bfloat16 is d1's Gumbel-max draw, which never draws rare tokens",
    )

    def settings(self) -> dict[str, Any]:
        """All settings; the later ones only where they are not at their default, so that other specs do not change."""
        later = {key for key in LATER if getattr(self, key) == type(self).model_fields[key].default}
        return self.model_dump(exclude=later)


class TopK(Decoding):
    """Commit the k best-scored positions of the active block at every step."""

    rule: Literal["top_k"]
    tokens_per_step: Count = Field(description="k; 1 is steps = L, 2 is steps = L/2")
    score: Literal["confidence", "entropy", "random"] = Field(
        description="the drawn token's probability; entropy of what it was drawn from, lowest first; or random"
    )


class RandomOrder(Decoding):
    """Commit one position of the active block at every step, in uniformly random order (ROAR in DMPO)."""

    rule: Literal["random_order"]


class Threshold(Decoding):
    """Commit every token that is at least so probable (Fast-dLLM)."""

    rule: Literal["threshold"]
    confidence: Share


class Factor(Decoding):
    """Commit the n most probable tokens, n the largest with (n + 1)(1 - c_n) < factor (Fast-dLLM)."""

    rule: Literal["factor"]
    factor: NonNegative


Proxy = Literal["entropy", "confidence", "margin"]


class EntropyBound(Decoding):
    """Commit the longest prefix whose entropies add up to less than gamma, the largest left out (EB-Sampler)."""

    rule: Literal["entropy_bound"]
    gamma: NonNegative = Field(description="nats; 0 is one token a step")
    proxy: Proxy = Field(description="error by which positions are sorted")


class Adaptive(Decoding):
    """An entropy bound that a trained head chooses (DiFFPO); all of its sizes are our choice, none is public."""

    rule: Literal["adaptive"]
    gamma: Positive = Field(description="the threshold of an untrained head")
    gamma_max: Positive = Field(description="the largest that it can choose")
    choose: Literal["prompt", "block"] = Field(description="once, from the prompt; or anew for each block")
    width: Count = Field(description="of the head's hidden layer")
    proxy: Proxy = Field(description="error by which positions are sorted")

    @model_validator(mode="after")
    def _start_fits(self) -> Adaptive:
        if self.gamma >= self.gamma_max:
            raise refuse(f"gamma {self.gamma} is not below gamma_max {self.gamma_max}")
        return self


Sampler = Annotated[TopK | RandomOrder | Threshold | Factor | EntropyBound | Adaptive, Field(discriminator="rule")]
