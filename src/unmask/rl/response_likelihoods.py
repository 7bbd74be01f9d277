"""Log-likelihoods of the responses of a whole buffer, one number per response, without gradients.

The surrogates of `likelihoods.py`, applied in parts that fit into memory and shared by all processes. The adapter is
merged into the weights, as it is constant for all these passes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.rl import likelihoods
from unmask.rl.likelihoods import Copies
from unmask.rl.rollouts import Rollouts


def draw_copies(rollouts: Rollouts, count: int, scheme: Literal["uniform", "bernoulli"], seeds: Seeds) -> Copies:
    """Draw `count` masked copies of every response, in antithetic pairs."""
    streams = rollouts.streams(seeds, "copies")
    return likelihoods.draw_copies(count, rollouts.length, scheme, streams)


def elbo(policy: Policy, rollouts: Rollouts, copies: Copies) -> Tensor:
    """Estimate log p_θ of the responses [B] by the ELBO on these copies."""

    def scored(part: Rollouts, masked: Tensor, weight: Tensor) -> Tensor:
        copies_of_part = Copies(masked, weight)
        terms = []
        for some in part.copies_at_once(masked.shape[1]):
            terms.append(likelihoods.denoising(policy.model, *part.inputs, copies_of_part.select(some)))
        return torch.cat(terms, 1).mean(1)

    with policy.merged():
        return rollouts.map(scored, copies.masked, copies.weight)


def elbo_of_sets(policy: Policy, rollouts: Rollouts, sets: list[Copies]) -> tuple[Copies, Tensor]:
    """Estimate the ELBO on each of several sets of copies [B, sets]; also return the sets, stacked on axis 1."""
    masked = torch.stack([copies.masked for copies in sets], 1)
    weight = torch.stack([copies.weight for copies in sets], 1)
    scores = [elbo(policy, rollouts, copies) for copies in sets]
    return Copies(masked, weight), torch.stack(scores, 1)


def trajectory(policy: Policy, rollouts: Rollouts) -> Tensor:
    """Compute log p_θ of the responses [B] along the order in which the sampler committed their tokens."""

    def scored(part: Rollouts) -> Tensor:
        # Tokens filled in after the end were not drawn; their step is NFE.
        drawn = part.unmask_step < part.nfe[:, None]
        return likelihoods.trajectory(policy.model, *part.inputs, part.unmask_step, drawn).sum(1)

    with policy.merged():
        return rollouts.map(scored)
