"""Commit rules: which of the masked positions of the active block keep their token after a forward pass.

A rule sees, for each row, the masked positions of the block [B, K], the log-probability of the token drawn there [B, K]
and a generator. It returns the positions to commit [B, K]: at least one in every row that has a masked one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def top_k(masked: Tensor, log_prob: Tensor, generator: torch.Generator, *, tokens_per_step: int, score: str) -> Tensor:
    """The k best positions: by the probability of the drawn token (LLaDA's low-confidence remasking) or at random."""
    if score == "random":
        log_prob = torch.rand(log_prob.shape, generator=generator, device=log_prob.device)
    scores = log_prob.masked_fill(~masked, -torch.inf)
    k = min(tokens_per_step, scores.shape[1])
    best = scores.topk(k, dim=1).indices
    return torch.zeros_like(masked).scatter(1, best, True) & masked


def random_order(masked: Tensor, log_prob: Tensor, generator: torch.Generator) -> Tensor:
    """One position a step, in uniformly random order [DMPO, ROAR].

    The order does not look at the tokens, so the product of their recorded probabilities is exactly p(o | q; σ).
    """
    return top_k(masked, log_prob, generator, tokens_per_step=1, score="random")


RULES = {"top_k": top_k, "random_order": random_order}


def commit(sampler: dict[str, Any], masked: Tensor, log_prob: Tensor, generator: torch.Generator) -> Tensor:
    """Apply the rule that a sampler's settings name."""
    settings = {key: value for key, value in sampler.items() if key != "rule"}
    return RULES[sampler["rule"]](masked, log_prob, generator, **settings)
