"""Commit rules: which masked positions of the active block keep their drawn token after a forward pass.

A rule takes `masked` [B, K], the candidates at these B rows × K positions, and a function that draws uniform noise
[B, K], for rules that are random themselves. It returns the positions to commit [B, K]: only masked ones, and at least
one in every row that has any. Ties go to the earlier position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Noise = Callable[[], Tensor]  # draws one uniform number per row and position


@dataclass
class Candidates:
    """Statistics of the token drawn at each position [B, K], at temperature 1; meaningless at unmasked positions."""

    log_prob: Tensor  # log-probability of the token
    entropy: Tensor  # entropy of the model's prediction [nats]
    margin: Tensor  # probability of the most likely token minus that of the second
    drawn_entropy: Tensor | None = None  # entropy of the sampling distribution, after temperature and top_p [nats]


def top_k(masked: Tensor, found: Candidates, noise: Noise, *, tokens_per_step: int, score: str) -> Tensor:
    """Commit the `tokens_per_step` best positions by `score`: token probability, entropy or random.

    Ordering by probability is LLaDA's low-confidence remasking. The entropy is that of the sampling distribution, after
    temperature and top_p, as in Dream.
    """
    scores = found.log_prob
    if score == "random":
        scores = noise()
    elif score == "entropy":
        assert found.drawn_entropy is not None
        scores = -found.drawn_entropy
    return _first(_order(-scores, masked), tokens_per_step, masked)


def threshold(masked: Tensor, found: Candidates, noise: Noise, *, confidence: float) -> Tensor:
    """Commit all tokens of at least this probability, or the most probable one [Fast-dLLM, section 3.3]."""
    best = _first(_order(-found.log_prob, masked), 1, masked)
    return masked & (found.log_prob.exp() >= confidence) | best


def factor(masked: Tensor, found: Candidates, noise: Noise, *, factor: float) -> Tensor:
    """Commit the n most probable tokens, n the largest with (n + 1)(1 − c_(n)) < f, or one [Fast-dLLM, section 3.3]."""
    order = _order(-found.log_prob, masked)
    # Over masked positions (n + 1)(1 − c_(n)) grows with n, so n is the length of the leading run. Unmasked positions
    # come last, with 1 − c = 0, and cumprod keeps them out of the count.
    doubt = 1 - found.log_prob.exp().gather(1, order)
    n = torch.arange(1, doubt.shape[1] + 1, device=doubt.device)
    return _first(order, ((n + 1) * doubt < factor).cumprod(1).sum(1, keepdim=True), masked)


def entropy_bound(masked: Tensor, found: Candidates, noise: Noise, *, gamma: float | Tensor, proxy: str) -> Tensor:
    """Commit the longest prefix U in order of an error proxy with Σ_U H − max_U H < γ [EB-Sampler, arXiv 2505.24857].

    γ is a number or one per row [B]. The bound is strict (the paper has ≤), so γ = 0 commits one token per step even
    where H rounds to zero. A NaN γ commits nothing, which `decode` reports as an error.
    """
    error = {"entropy": found.entropy, "confidence": -found.log_prob, "margin": -found.margin}[proxy]
    order = _order(error, masked)
    entropy = found.entropy.gather(1, order)
    excess = entropy.cumsum(1) - entropy.cummax(1).values
    bound = gamma.view(-1, 1) if isinstance(gamma, Tensor) else gamma
    chosen = _first(order, (excess < bound).cumprod(1).sum(1, keepdim=True), masked)
    return chosen & (bound == bound) if isinstance(bound, Tensor) else chosen


def random_order(masked: Tensor, found: Candidates, noise: Noise) -> Tensor:
    """Commit one position per step, in uniformly random order [DMPO, ROAR].

    The order is independent of the tokens, so the product of their recorded probabilities is exactly p(o | q; σ).
    """
    return top_k(masked, found, noise, tokens_per_step=1, score="random")


RULES: dict[str, Callable[..., Tensor]] = {
    "top_k": top_k,
    "threshold": threshold,
    "factor": factor,
    "entropy_bound": entropy_bound,
    "random_order": random_order,
}


def commit(sampler: dict[str, Any], masked: Tensor, found: Candidates, noise: Noise) -> Tensor:
    """Apply the rule named in a sampler's settings; arguments and result as in the module docstring."""
    settings = {key: value for key, value in sampler.items() if key != "rule"}
    return RULES[sampler["rule"]](masked, found, noise, **settings)


def _order(error: Tensor, masked: Tensor) -> Tensor:
    """Sort positions [B, K] by ascending error, unmasked positions last."""
    return error.masked_fill(~masked, torch.inf).argsort(dim=1, stable=True)


def _first(order: Tensor, count: int | Tensor, masked: Tensor) -> Tensor:
    """Return a mask [B, K] of the first `count` (an int or [B, 1]) positions of an order, at least one."""
    # argsort of a permutation is its inverse: the rank of each position.
    rank = order.argsort(dim=1)
    return masked & ((rank < count) | (rank == 0))
