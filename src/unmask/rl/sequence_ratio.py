"""Shared parts of sequence-level methods: ELBO scores of old, reference and new policy on the same masked copies.

A method draws the copies of each update for the whole buffer, so that nothing depends on how it is split, and chooses a
score: per token (`token_scores`) or per copy (`copy_scores`). The sum of the first over tokens, and the mean of the
second over copies, is the ELBO Ê of a response.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unmask.models.policy import Policy
from unmask.rl import likelihoods
from unmask.rl.buffer_data import SequenceBuffer, SequenceUpdate
from unmask.rl.likelihoods import Copies
from unmask.rl.rollouts import Rollouts

Score = Callable[[nn.Module, Rollouts, Copies], Tensor]


def token_scores(model: nn.Module, rollouts: Rollouts, copies: Copies) -> Tensor:
    """Compute each token's share of the ELBO [b, L]: mean over copies of weight · log π_θ(o_d | q, õ), 0 if visible."""
    total = torch.zeros(rollouts.response.shape, device=rollouts.response.device)
    for some in rollouts.copies_at_once(copies.masked.shape[1]):
        part = copies.select(some)
        scores = likelihoods.copy_log_probs(model, *rollouts.inputs, part.masked)
        weighted = scores * part.weight[..., None]
        total = total + weighted.sum(1).to(total.dtype)
    return total / copies.masked.shape[1]


def copy_scores(model: nn.Module, rollouts: Rollouts, copies: Copies) -> Tensor:
    """Compute the ELBO term of each copy [b, K]: weight · Σ_{d masked} log π_θ(o_d | q, õ)."""
    terms = []
    for some in rollouts.copies_at_once(copies.masked.shape[1]):
        terms.append(likelihoods.denoising(model, *rollouts.inputs, copies.select(some)))
    return torch.cat(terms, 1)


def prepare(
    policy: Policy, rollouts: Rollouts, copies: list[Copies], score: Score, advantage: Tensor, use_reference: bool
) -> SequenceBuffer:
    """Score the whole buffer under the old and, if it is used, the reference policy on the copies of each update."""
    old = [_score_all(score, policy.model, rollouts, some) for some in copies]
    reference = None
    if use_reference:
        with policy.reference():
            scores = [_score_all(score, policy.model, rollouts, some) for some in copies]
        reference = torch.stack(scores, 1)
    return SequenceBuffer(
        advantage=advantage,
        old=torch.stack(old, 1),
        masked=torch.stack([some.masked for some in copies], 1),
        weight=torch.stack([some.weight for some in copies], 1),
        reference=reference,
    )


def at_update(buffer_data: SequenceBuffer, update: int) -> SequenceUpdate:
    """Select the copies of an update and the scores on them."""
    reference = buffer_data.reference
    return SequenceUpdate(
        old=buffer_data.old[:, update],
        masked=buffer_data.masked[:, update],
        weight=buffer_data.weight[:, update],
        reference=None if reference is None else reference[:, update],
    )


def copies_of(update_data: SequenceUpdate) -> Copies:
    """Return the masked copies of an update."""
    return Copies(update_data.masked, update_data.weight)


def _score_all(score: Score, model: nn.Module, rollouts: Rollouts, copies: Copies) -> Tensor:
    """Score the whole buffer [B, …] on these copies, in parts and without gradients."""

    # The adapter is not merged, so that a ratio is 1 until the policy moves, to the last bit if the parts are equal.
    def scored(part: Rollouts, masked: Tensor, weight: Tensor) -> Tensor:
        return score(model, part, Copies(masked, weight))

    return rollouts.map(scored, copies.masked, copies.weight)
