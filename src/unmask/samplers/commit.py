"""Commit rules: which masked positions of the active block keep their token after a forward pass.

A rule sees the candidates of B rows × K positions, `masked` [B, K] and a generator. It returns the positions to commit
[B, K]: at least one in every row that has a masked one, and none that is not masked. Ties go to the earlier position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class Candidates:
    """What is known of the token drawn at each position [B, K], at temperature 1; meaningless where none is masked."""

    log_prob: Tensor  # log-probability of the token
    entropy: Tensor  # H of the prediction it was drawn from, nats
    margin: Tensor  # probability of the best token less that of the second best
    drawn_entropy: Tensor | None = None  # H of the distribution it was drawn from: after temperature and top_p


def top_k(masked: Tensor, found: Candidates, generator: torch.Generator, *, tokens_per_step: int, score: str) -> Tensor:
    """The k best positions: by probability of the drawn token (LLaDA's low-confidence remasking), entropy or at random.

    The entropy is that of the distribution the token was drawn from, after temperature and top_p, as in Dream.
    """
    scores = found.log_prob
    if score == "random":
        scores = torch.rand(scores.shape, generator=generator, device=scores.device)
    elif score == "entropy":
        assert found.drawn_entropy is not None
        scores = -found.drawn_entropy
    return _first(_order(-scores, masked), tokens_per_step, masked)


def threshold(masked: Tensor, found: Candidates, generator: torch.Generator, *, confidence: float) -> Tensor:
    """All positions whose token has at least this probability, or the best one [Fast-dLLM, section 3.3]."""
    best = _first(_order(-found.log_prob, masked), 1, masked)
    return masked & (found.log_prob.exp() >= confidence) | best


def factor(masked: Tensor, found: Candidates, generator: torch.Generator, *, factor: float) -> Tensor:
    """The n most probable tokens, n the largest with (n + 1)(1 − c_(n)) < f, or one [Fast-dLLM, section 3.3]."""
    order = _order(-found.log_prob, masked)
    doubt = 1 - found.log_prob.exp().gather(1, order)
    n = torch.arange(1, doubt.shape[1] + 1, device=doubt.device)
    return _first(order, ((n + 1) * doubt < factor).cumprod(1).sum(1, keepdim=True), masked)


def entropy_bound(
    masked: Tensor, found: Candidates, generator: torch.Generator, *, gamma: float | Tensor, proxy: str
) -> Tensor:
    """The longest prefix U, sorted by an error proxy, with Σ_U H − max_U H < γ [EB-Sampler, arXiv 2505.24857].

    γ is one number or one a row [B]. The bound is strict, so γ = 0 is one token a step also where H rounds to zero. A γ
    that is NaN commits nothing, which `decode` reports: no threshold can be read from it.
    """
    error = {"entropy": found.entropy, "confidence": -found.log_prob, "margin": -found.margin}[proxy]
    order = _order(error, masked)
    entropy = found.entropy.gather(1, order)
    excess = entropy.cumsum(1) - entropy.cummax(1).values
    bound = gamma.view(-1, 1) if isinstance(gamma, Tensor) else gamma
    chosen = _first(order, (excess < bound).cumprod(1).sum(1, keepdim=True), masked)
    return chosen & (bound == bound) if isinstance(bound, Tensor) else chosen


def random_order(masked: Tensor, found: Candidates, generator: torch.Generator) -> Tensor:
    """One position a step, in uniformly random order [DMPO, ROAR].

    The order does not look at the tokens, so the product of their recorded probabilities is exactly p(o | q; σ).
    """
    return top_k(masked, found, generator, tokens_per_step=1, score="random")


RULES: dict[str, Callable[..., Tensor]] = {
    "top_k": top_k,
    "threshold": threshold,
    "factor": factor,
    "entropy_bound": entropy_bound,
    "random_order": random_order,
}


def commit(sampler: dict[str, Any], masked: Tensor, found: Candidates, generator: torch.Generator) -> Tensor:
    """Apply the rule that a sampler's settings name."""
    settings = {key: value for key, value in sampler.items() if key != "rule"}
    return RULES[sampler["rule"]](masked, found, generator, **settings)


def _order(error: Tensor, masked: Tensor) -> Tensor:
    """Positions [B, K] from the smallest error to the largest, those that are not masked last."""
    return error.masked_fill(~masked, torch.inf).argsort(dim=1, stable=True)


def _first(order: Tensor, count: int | Tensor, masked: Tensor) -> Tensor:
    """The first `count` (an int or [B, 1]) positions of an order, at least one, as a mask [B, K]."""
    rank = order.argsort(dim=1)
    return masked & ((rank < count) | (rank == 0))
