"""Responses and the record of how they were made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass
class Completions:
    """Responses and the record of how they were made; everything downstream needs only this."""

    response: Tensor  # [B, L] token ids
    step: Tensor  # [B, L] the forward pass (from 0) that committed each token; NFE for tokens filled in after the end
    log_prob_t1: Tensor  # [B, L] log-probability of each token when it was drawn, at temperature 1
    entropy: Tensor  # [B, L] nats, of the distribution at temperature 1 that each token was drawn from
    nfe: Tensor  # [B] forward passes spent
    threshold: Tensor  # [B, N] logits of the N thresholds that an adaptive sampler chose; NaN where it chose none
    state: Tensor  # [B, N, D] what it saw; N = 0 for other samplers

    @classmethod
    def empty(
        cls, rows: int, length: int, mask_id: int, device: torch.device, choices: int = 0, width: int = 0
    ) -> Completions:
        """All masked, nothing spent; room for `choices` thresholds, each chosen from a state of `width` numbers."""
        return cls(
            response=torch.full((rows, length), mask_id, device=device),
            step=torch.zeros((rows, length), dtype=torch.long, device=device),
            log_prob_t1=torch.zeros((rows, length), device=device),
            entropy=torch.zeros((rows, length), device=device),
            nfe=torch.zeros(rows, dtype=torch.long, device=device),
            threshold=torch.full((rows, choices), torch.nan, device=device),
            state=torch.zeros((rows, choices, width), device=device),
        )

    @classmethod
    def given(cls, response: Tensor) -> Completions:
        """Responses that no sampler made: committed at step 0 with probability 1, at no forward passes."""
        rows, length = response.shape
        made = cls.empty(rows, length, 0, response.device)
        made.response = response
        return made

    def __getitem__(self, rows: Any) -> Completions:
        return Completions(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: Any, other: Completions) -> None:
        """Overwrite some rows."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(other, f.name)
