"""Upper and lower bounds of a response's log-likelihood per token, on blockwise masks [SPG, arXiv 2510.09541].

Both read the log-probabilities of the same masked copies: the lower bound is their mean, and the upper one replaces the
mean over copies of log π by (1/β) log of the mean of π^β, which is larger. Shapes as in likelihoods.py: B responses, P
prompt tokens, L response tokens, K masked copies; E are the tokens up to the first end of text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unmask.common.random_streams import Streams
from unmask.models.policy import Policy
from unmask.rl.likelihoods import copy_log_probs, draw_prompt_drop
from unmask.rl.rollouts import Rollouts


def draw_block_masks(copies: int, block: int, ends: Tensor, perturbed: float, streams: Streams) -> Tensor:
    """Draw K = `copies` blockwise masks [B, K, L] of responses with E = `ends` [B, L], a prefix of each response.

    A copy takes a block of `block` tokens within E and masks a uniform subset of it, of uniform size 1 … its length in
    E. Every later token is masked, every token after E too, and each token before the block with probability
    `perturbed`. The copies of a response take different blocks as long as E has enough of them.
    """
    length = ends.shape[1]
    position = torch.arange(length, device=ends.device)
    ended = ends.sum(1).long()
    blocks = -(-length // block)
    used = -(-ended // block)[:, None]  # blocks of each response that are within E

    # The permutation is over all blocks and then folded into those of E, as in the released code.
    order = streams.child(0).uniform(blocks).argsort(1)
    repeats = -(-copies // blocks)
    chosen = order.repeat(1, repeats)[:, :copies] % used
    start = (chosen * block)[..., None]
    stop = torch.minimum(start + block, ended[:, None, None])

    # Ranks among the tokens of the block: the others get noise above every number of the stream.
    inside = (position >= start) & (position < stop)
    noise = streams.child(1).uniform(copies, length).masked_fill(~inside, 2.0)
    rank = noise.argsort(-1).argsort(-1)
    size = (streams.child(2).uniform(copies, 1) * (stop - start)).long() + 1
    subset = inside & (rank < size)

    before = (position < start) & (streams.child(3).uniform(copies, length) < perturbed)
    return subset | before | (position >= stop)


def draw_uniform_masks(copies: int, ends: Tensor, streams: Streams) -> Tensor:
    """Draw K = `copies` masks [B, K, L]: uniform subsets of E = `ends` [B, L] of size 1 … |E|, and all after E."""
    inside = ends.bool()[:, None]
    noise = streams.child(1).uniform(copies, ends.shape[1]).masked_fill(~inside, 2.0)
    rank = noise.argsort(-1).argsort(-1)
    size = (streams.child(2).uniform(copies, 1) * ends.sum(1)[:, None, None]).long() + 1
    return (rank < size) | ~inside


def draw_prompt_drops(copies: int, prompt_mask: Tensor, probability: float, streams: Streams) -> Tensor:
    """Draw the prompt tokens to mask in each copy [B, K, P], iid with `probability`, never padding."""
    drops = [draw_prompt_drop(prompt_mask, probability, streams.child(copy)) for copy in range(copies)]
    return torch.stack(drops, 1)


def stack_draws(draws: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack masks of N draws: N × ([B, K, L], [B, K, P]) -> [B, N, K, L] and [B, N, K, P]."""
    masked, drop = zip(*draws, strict=True)
    return torch.stack(masked, 1), torch.stack(drop, 1)


def lower_bound(log_probs: Tensor, scored: Tensor) -> Tensor:
    """Compute L⁺ [B], the mean over copies of the mean of log π over the tokens in S = `scored` [B, K, L].

    `log_probs` [B, K, L] is 0 outside of S, which is not empty in any copy.
    """
    return (log_probs.sum(2) / scored.sum(2)).mean(1)


def upper_bound(log_probs: Tensor, scored: Tensor, ends: Tensor, power: float) -> Tensor:
    """Compute (1/β) · mean over d of log P_d [B], P_d = mean over copies of π_d^β · 1[d ∈ S]/t̂ with t̂ = |S|/|E|.

    β is `power`. The outer mean is over the tokens that are in S = `scored` [B, K, L] of some copy. Arguments as in
    `lower_bound`; `ends` [B, L] is E.
    """
    rate = scored.sum(2) / ends.sum(1, keepdim=True)
    terms = power * log_probs - rate.log()[..., None] - math.log(scored.shape[1])
    terms = terms.masked_fill(~scored, -torch.inf)

    # A token in no copy has no log-sum-exp: its column is replaced before, so that no NaN enters the gradient.
    seen = scored.any(1)
    terms = terms.masked_fill(~seen[:, None], 0.0)
    log_mean = terms.logsumexp(1) * seen
    return log_mean.sum(1) / seen.sum(1) / power


def sandwich(
    log_probs: Tensor, scored: Tensor, ends: Tensor, advantage: Tensor, power: float, mix: float
) -> tuple[Tensor, Tensor]:
    """Compute the bound of each response [B] for its advantage [B], and the lower bound [B].

    It is L⁺ for A > 0 and ω · upper + (1 − ω) · L⁺ otherwise, ω = `mix`: raising a lower bound raises what it bounds,
    and lowering an upper one lowers it.
    """
    lower = lower_bound(log_probs, scored)
    upper = upper_bound(log_probs, scored, ends, power)
    mixed = mix * upper + (1 - mix) * lower
    return torch.where(advantage > 0, lower, mixed), lower


def bounds_of(
    model: nn.Module, rollouts: Rollouts, masked: Tensor, drop: Tensor, advantage: Tensor, power: float, mix: float
) -> tuple[Tensor, Tensor]:
    """Compute `sandwich` of a part of a buffer on its masks [b, K, L] and masked prompt tokens `drop` [b, K, P]."""
    log_probs, scored = _log_probs(model, rollouts, masked, drop)
    return sandwich(log_probs, scored, rollouts.loss_mask, advantage, power, mix)


def lower_bounds(policy: Policy, rollouts: Rollouts, masked: Tensor, drop: Tensor) -> Tensor:
    """Compute `lower_bound` of a whole buffer [B] on its masks, in parts and without gradients."""

    def scored(part: Rollouts, masked: Tensor, drop: Tensor) -> Tensor:
        log_probs, counted = _log_probs(policy.model, part, masked, drop)
        return lower_bound(log_probs, counted)

    with policy.merged():
        return rollouts.map(scored, masked, drop)


def _log_probs(model: nn.Module, rollouts: Rollouts, masked: Tensor, drop: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of the copies [b, K, L] and S, the masked tokens up to the first end of text."""
    scored = masked & rollouts.loss_mask.bool()[:, None]
    terms = []
    for some in rollouts.copies_at_once(masked.shape[1]):
        parts = masked[:, some], scored[:, some], drop[:, some]
        terms.append(copy_log_probs(model, *rollouts.inputs, *parts))
    return torch.cat(terms, 1), scored
