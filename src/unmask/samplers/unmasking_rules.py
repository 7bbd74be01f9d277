"""Commit rules: which masked positions of the active block keep their drawn token after a forward pass.

A rule takes `masked` [B, K], the candidates at these B rows × K positions, and a function that draws uniform noise
[B, K], for rules that are random themselves. It returns the positions to commit [B, K]: only masked ones, and at least
one in every row that has any. Ties go to the earlier position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.common.determinism import running_sum
from unmask.config.schema.samplers import (
    Adaptive,
    EntropyBound,
    Factor,
    LeftToRight,
    RandomOrder,
    Sampler,
    Threshold,
    TopK,
)

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
    order = _order(-scores, masked)
    return _first(order, tokens_per_step, masked)


def threshold(masked: Tensor, found: Candidates, noise: Noise, *, confidence: float) -> Tensor:
    """Commit all tokens of at least this probability, or the most probable one [Fast-dLLM, section 3.3]."""
    order = _order(-found.log_prob, masked)
    best = _first(order, 1, masked)
    confident = found.log_prob.exp() >= confidence
    return (masked & confident) | best


def factor(masked: Tensor, found: Candidates, noise: Noise, *, factor: float) -> Tensor:
    """Commit the n most probable tokens, n the largest with (n + 1)(1 − c_(n)) < f, or one [Fast-dLLM, section 3.3]."""
    order = _order(-found.log_prob, masked)
    # Over masked positions (n + 1)(1 − c_(n)) grows with n, so n is the length of the leading run. Unmasked positions
    # come last, with 1 − c = 0, and cumprod keeps them out of the count.
    confidence = found.log_prob.exp().gather(1, order)
    doubt = 1 - confidence
    n = torch.arange(1, doubt.shape[1] + 1, device=doubt.device)
    below = (n + 1) * doubt < factor
    return _first(order, _leading(below), masked)


def entropy_bound(masked: Tensor, found: Candidates, noise: Noise, *, gamma: float | Tensor, proxy: str) -> Tensor:
    """Commit the longest prefix U in order of an error proxy with Σ_U H − max_U H < γ [EB-Sampler, arXiv 2505.24857].

    γ is a number or one per row [B]. The bound is strict (the paper has ≤), so γ = 0 commits one token per step even
    where H rounds to zero. A NaN γ commits nothing, which `decode` reports as an error.
    """
    errors = {"entropy": found.entropy, "confidence": -found.log_prob, "margin": -found.margin}
    order = _order(errors[proxy], masked)
    entropy = found.entropy.gather(1, order)
    excess = running_sum(entropy, 1) - entropy.cummax(1).values
    if not isinstance(gamma, Tensor):
        return _first(order, _leading(excess < gamma), masked)

    bound = gamma.view(-1, 1)
    chosen = _first(order, _leading(excess < bound), masked)
    return chosen & ~bound.isnan()


def random_order(masked: Tensor, found: Candidates, noise: Noise) -> Tensor:
    """Commit one position per step, in uniformly random order [DMPO, ROAR].

    The order is independent of the tokens, so the product of their recorded probabilities is exactly p(o | q; σ).
    """
    return top_k(masked, found, noise, tokens_per_step=1, score="random")


def left_to_right(masked: Tensor, found: Candidates, noise: Noise) -> Tensor:
    """Commit the first masked position [JustGRPO], so the recorded probabilities are those of π(o_t | q, o_<t)."""
    return _first(_order(torch.zeros_like(found.log_prob), masked), 1, masked)


@dataclass(frozen=True)
class RowBounds:
    """Entropy bound of an adaptive sampler: a threshold γ per row [B], chosen from the hidden states of this step."""

    gamma: Tensor
    proxy: str


def commit(rule: Sampler | RowBounds, masked: Tensor, found: Candidates, noise: Noise) -> Tensor:
    """Apply the rule of a sampler; arguments and result as in the module docstring."""
    match rule:
        case TopK():
            return top_k(masked, found, noise, tokens_per_step=rule.tokens_per_step, score=rule.score)
        case RandomOrder():
            return random_order(masked, found, noise)
        case LeftToRight():
            return left_to_right(masked, found, noise)
        case Threshold():
            return threshold(masked, found, noise, confidence=rule.confidence)
        case Factor():
            return factor(masked, found, noise, factor=rule.factor)
        case EntropyBound() | RowBounds():
            return entropy_bound(masked, found, noise, gamma=rule.gamma, proxy=rule.proxy)
        case Adaptive():
            raise TypeError("an adaptive sampler has no rule of its own: pass the bounds that its head chose")
        case _:
            raise TypeError(f"{type(rule).__name__} has no commit rule: add a case here")


def _order(error: Tensor, masked: Tensor) -> Tensor:
    """Sort positions [B, K] by ascending error, unmasked positions last."""
    return error.masked_fill(~masked, torch.inf).argsort(dim=1, stable=True)


def _leading(holds: Tensor) -> Tensor:
    """Return the length [B, 1] of the leading run of true values in each row [B, K]."""
    return holds.cumprod(1).sum(1, keepdim=True)


def _first(order: Tensor, count: int | Tensor, masked: Tensor) -> Tensor:
    """Return a mask [B, K] of the first `count` (an int or [B, 1]) positions of an order, at least one."""
    # argsort of a permutation is its inverse: the rank of each position.
    rank = order.argsort(dim=1)
    return masked & ((rank < count) | (rank == 0))
