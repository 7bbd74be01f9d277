"""Decoding settings, the same for rollouts, validation, evaluation, pretraining, diagnosis and the exact toy."""

from __future__ import annotations

from dataclasses import dataclass

from unmask.config.schema.samplers import Sampler


@dataclass(frozen=True)
class DecodingSettings:
    """How responses are decoded: their length, in blocks of which size, by which sampler, at which temperature."""

    length: int  # tokens of a response
    block_length: int
    sampler: Sampler  # unmasking rule with its settings, and those that all samplers have
    temperature: float  # 0: always the most probable token
    rows_per_batch: int | None = None  # rows decoded at once, further ones wait for their turn; None: all
    mask_padding: bool = True  # False: prompts attend to their padding, as in the released codes
