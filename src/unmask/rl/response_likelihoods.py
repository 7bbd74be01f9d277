"""Log-likelihoods of the responses of a whole buffer, one number per response, without gradients.

The surrogates of `likelihoods.py`, applied in parts that fit into memory and shared by all processes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from unmask.common.seeding import Seeds
from unmask.rl import likelihoods
from unmask.rl.likelihoods import Copies
from unmask.rl.rollouts import Rollouts


def draw_copies(rollouts: Rollouts, count: int, scheme: Literal["uniform", "bernoulli"], seeds: Seeds) -> Copies:
    """Draw `count` masked copies of every response, in antithetic pairs."""
    generator = seeds.generator("copies", device=rollouts.response.device)
    return likelihoods.draw_copies((len(rollouts), count, rollouts.length), scheme, generator)


def elbo(model: nn.Module, rollouts: Rollouts, copies: Copies) -> Tensor:
    """Estimate log p_θ of the responses [B] by the ELBO on these copies."""

    def scored(part: Rollouts, masked: Tensor, weight: Tensor) -> Tensor:
        copies_of_part = Copies(masked, weight)
        terms = []
        for some in part.copies_at_once(masked.shape[1]):
            terms.append(likelihoods.denoising(model, *part.inputs, copies_of_part.select(some)))
        return torch.cat(terms, 1).mean(1)

    return rollouts.map(scored, copies.masked, copies.weight)


def elbo_of_sets(model: nn.Module, rollouts: Rollouts, sets: list[Copies]) -> tuple[Copies, Tensor]:
    """Estimate the ELBO on each of several sets of copies [B, sets]; also return the sets, stacked on axis 1."""
    masked = torch.stack([copies.masked for copies in sets], 1)
    weight = torch.stack([copies.weight for copies in sets], 1)
    scores = [elbo(model, rollouts, copies) for copies in sets]
    return Copies(masked, weight), torch.stack(scores, 1)


def trajectory(model: nn.Module, rollouts: Rollouts) -> Tensor:
    """Compute log p_θ of the responses [B] along the order in which the sampler committed their tokens."""

    def scored(part: Rollouts) -> Tensor:
        # Tokens filled in after the end were not drawn; their step is NFE.
        drawn = part.unmask_step < part.nfe[:, None]
        return likelihoods.trajectory(model, *part.inputs, part.unmask_step, drawn).sum(1)

    return rollouts.map(scored)
