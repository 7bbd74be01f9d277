"""Advantages, weights and losses of the objectives: pure functions of small tensors.

Rows are ordered by prompt: G responses of the first prompt, then of the second, and so on.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

# Bins of DMPO's weights w_real, whose group mean is 1 without a baseline: as much as 0, and then by factors of four.
WEIGHT_EDGES = (-torch.inf, -4.0, -1.0, -0.25, -0.05, 0.05, 0.25, 1.0, 4.0)

# --- policy gradients -------------------------------------------------------------------------------------------------


def group_advantages(reward: Tensor, group_size: int) -> Tensor:
    """r_i − mean of its group [B], not divided by the standard deviation [d1]."""
    groups = reward.view(-1, group_size)
    return (groups - groups.mean(1, keepdim=True)).flatten()


def leave_one_out_advantages(reward: Tensor, group_size: int) -> Tensor:
    """r_i − mean of the others of its group [B] [coupled-GRPO]: G/(G − 1) times the group advantage."""
    return group_advantages(reward, group_size) * group_size / (group_size - 1)


def clipped_loss(new: Tensor, old: Tensor, advantage: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """−min(ρA, clip(ρ, 1 ± ε)A) with ρ = exp(new − old), and where the clipped branch is the smaller one."""
    ratio = (new - old).exp()
    free, bounded = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    return -torch.minimum(free, bounded), bounded < free


def k3(new: Tensor, reference: Tensor) -> Tensor:
    """The non-negative estimate exp(δ) − δ − 1 of KL(new ‖ reference), δ = reference − new."""
    delta = reference - new
    return delta.exp() - delta - 1


def clamped_importance(surrogate_old: Tensor, behaviour: Tensor, clamp: float) -> Tensor:
    """min(C, π_sur,old / π_true,old) per token [DiFFPO]: from tokens the sampler drew to those the surrogate would."""
    return (surrogate_old - behaviour).exp().clamp(max=clamp)


# --- distribution matching --------------------------------------------------------------------------------------------


def group_softmax(logits: Tensor, group_size: int) -> Tensor:
    """G · softmax over each group [B]; the mean of a group is 1."""
    return (group_size * torch.softmax(logits.view(-1, group_size), dim=1)).flatten()


def effective_sample_size(weight: Tensor, group_size: int) -> Tensor:
    """Share of a group that counts, 1 / (G Σ softmax²) in [1/G, 1], repeated for its rows [B]."""
    normalised = weight.view(-1, group_size) / group_size
    return (1 / (group_size * normalised.square().sum(1))).repeat_interleave(group_size)


def binned(weight: Tensor) -> dict[str, Tensor]:
    """For each bin of WEIGHT_EDGES, 1.0 where the weight [B] is in it; its lower edge is in its name."""
    edges = [*WEIGHT_EDGES, torch.inf]
    return {
        f"weight_from_{low:g}": ((weight >= low) & (weight < high)).float() for low, high in itertools.pairwise(edges)
    }


def coefficient_for(logits: Tensor, group_size: int, target: float, halvings: int = 40) -> Tensor:
    """The largest coefficient in (0, 1] for each group at which its effective sample size is at least `target` [B].

    The effective sample size of softmax(c · ℓ) falls as c grows, so bisection finds it.
    """
    low, high = torch.zeros_like(logits), torch.ones_like(logits)
    enough = effective_sample_size(group_softmax(logits, group_size), group_size) >= target
    for _ in range(halvings):
        middle = (low + high) / 2
        reached = effective_sample_size(group_softmax(middle * logits, group_size), group_size) >= target
        low, high = torch.where(reached, middle, low), torch.where(reached, high, middle)
    return torch.where(enough, torch.ones_like(low), low)


def wddo_loss(weight: Tensor, ratio_up: Tensor, ratio_down: Tensor, beta: float, negative: float) -> Tensor:
    """−[w log σ(βΔ) + a log σ(−βΔ)] [B], Δ = log p_θ − log p_old; each term has its own estimate of Δ.

    Where w = p*/p_old and a = β = 1 its expectation under p_old is least at p_θ = p* [DMPO, WDDO].
    """
    return -(weight * F.logsigmoid(beta * ratio_up) + negative * F.logsigmoid(-beta * ratio_down))
