"""Random numbers of decoding: each belongs to a response, a forward pass of it and a position, whatever the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.common.random_streams import Streams, as_normal, as_uniform


@dataclass(frozen=True)
class DecodingNoise:
    """Streams of all responses, one family for each purpose."""

    tokens: Streams  # of sampled tokens
    order: Streams  # of rules that choose positions at random
    thresholds: Streams  # of adaptive samplers

    @classmethod
    def of(cls, streams: Streams) -> DecodingNoise:
        """Divide the streams of the responses by purpose."""
        return cls(*(streams.child(purpose) for purpose in range(3)))

    def for_tokens(self, row: Tensor, step: Tensor, width: int) -> Tensor:
        """Return 64 random bits for each of `width` positions of responses `row` [S] at their passes `step` [S]."""
        return self.tokens[row].words(_counter(step, width))

    def for_order(self, row: Tensor, step: Tensor, width: int) -> Tensor:
        """Return a uniform number for each of `width` positions of responses `row` [S] at their passes `step` [S]."""
        return as_uniform(self.order[row].words(_counter(step, width)))

    def for_thresholds(self, row: Tensor, place: Tensor) -> Tensor:
        """Return a standard normal number for choice `place` [n] (from 0) of responses `row` [n]."""
        return as_normal(self.thresholds[row].words(place))


def _counter(step: Tensor, width: int) -> Tensor:
    """Return a number [S, width] for each position of each pass of a response."""
    return step[:, None] * width + torch.arange(width, device=step.device)
