"""Decoding settings, the same for rollouts, validation, evaluation, pretraining, diagnosis and the exact toy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unmask.config.schema.samplers import Decoding


@dataclass(frozen=True)
class DecodingSettings:
    """How responses are decoded: their length, in blocks of which size, by which sampler, at which temperature."""

    length: int  # tokens of a response
    block_length: int
    sampler: dict[str, Any]  # as in config.yaml: the unmasking rule with its settings, and those of `options`
    temperature: float  # 0: always the most probable token
    rows_per_batch: int | None = None  # rows decoded at once, further ones wait for their turn; None: all
    mask_padding: bool = True  # False: prompts attend to their padding, as in the released codes

    @property
    def rule(self) -> dict[str, Any]:
        """Unmasking rule of the sampler, with the settings that only this rule has."""
        return {key: value for key, value in self.sampler.items() if key not in Decoding.model_fields}

    @property
    def options(self) -> Decoding:
        """Settings that all samplers have, such as the cache; at their default if the sampler does not set them."""
        return Decoding(**{key: value for key, value in self.sampler.items() if key in Decoding.model_fields})
