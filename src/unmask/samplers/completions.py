"""Responses and the record of how they were decoded."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass
class Completions:
    """Responses of B rows and the record of their decoding; surrogates and losses need nothing else."""

    response: Tensor  # [B, L] token ids
    unmask_step: Tensor  # [B, L] forward pass (from 0) that committed each token; NFE if filled in after the end
    log_prob_t1: Tensor  # [B, L] log-probability of each token when it was drawn, at temperature 1
    entropy: Tensor  # [B, L] entropy of the prediction for each token when it was drawn, at temperature 1 [nats]
    nfe: Tensor  # [B] forward passes spent
    gamma_logit: Tensor  # [B, N] logits of the N thresholds that an adaptive sampler chose; NaN where it chose none
    gamma_input: Tensor  # [B, N, D] hidden states they were chosen from; N = 0 for other samplers

    @classmethod
    def empty(
        cls, rows: int, length: int, mask_id: int, device: torch.device, choices: int = 0, width: int = 0
    ) -> Completions:
        """Create fully masked responses with no forward passes spent.

        `choices` is the number N of thresholds per response, `width` the size D of the states they are chosen from.
        """
        return cls(
            response=torch.full((rows, length), mask_id, device=device),
            unmask_step=torch.zeros((rows, length), dtype=torch.long, device=device),
            log_prob_t1=torch.zeros((rows, length), device=device),
            entropy=torch.zeros((rows, length), device=device),
            nfe=torch.zeros(rows, dtype=torch.long, device=device),
            gamma_logit=torch.full((rows, choices), torch.nan, device=device),
            gamma_input=torch.zeros((rows, choices, width), device=device),
        )

    @classmethod
    def given(cls, response: Tensor) -> Completions:
        """Wrap responses that were not sampled: committed at step 0 with probability 1, with no forward passes."""
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
