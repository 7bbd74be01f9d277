"""Advantages, weights and losses of the objectives: pure functions of small tensors.

Rows are ordered by prompt: G responses to the first prompt, then to the second, and so on.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Bins of DMPO's weights w_real, whose group mean is 1 without a baseline: one around 0, then by factors of about four.
WEIGHT_EDGES = (-torch.inf, -4.0, -1.0, -0.25, -0.05, 0.05, 0.25, 1.0, 4.0)

# --- policy gradients -------------------------------------------------------------------------------------------------


def group_advantages(reward: Tensor, group_size: int) -> Tensor:
    """Compute r_i − group mean [B], not divided by the standard deviation [d1]."""
    groups = reward.view(-1, group_size)
    baseline = groups.mean(1, keepdim=True)
    return (groups - baseline).flatten()


def leave_one_out_advantages(reward: Tensor, group_size: int) -> Tensor:
    """Compute r_i − mean of the group's other rewards [B] [coupled-GRPO]: G/(G − 1) times the group advantage."""
    advantage = group_advantages(reward, group_size)
    return advantage * group_size / (group_size - 1)


def standardised_advantages(reward: Tensor, group_size: int, epsilon: float = 1e-4) -> Tensor:
    """Compute (r_i − group mean) / (group deviation + ε) [B], the deviation with G − 1 [GRPO, JustGRPO].

    Exactly 0 in groups of equal rewards, whose mean may be rounded.
    """
    groups = reward.view(-1, group_size)
    centred = groups - groups.mean(1, keepdim=True)
    centred = centred.masked_fill((groups == groups[:, :1]).all(1, keepdim=True), 0.0)
    return (centred / (groups.std(1, keepdim=True) + epsilon)).flatten()


def weights_of_nonzero(advantage: Tensor, shares: int = 1) -> Tensor:
    """Compute 1 / (responses with A ≠ 0) [B] in each of so many consecutive shares of the buffer [JustGRPO].

    A loss with these weights is a mean over the responses that teach something, summed over the shares.
    """
    parts = advantage.chunk(shares)
    return torch.cat([torch.ones_like(part) / (part != 0).sum().clamp(min=1) for part in parts])


def ranked_advantages(returns: Tensor, exists: Tensor, group_size: int) -> Tensor:
    """Compute the return less the group mean of the same column [B, K], of those that exist [EGSPO]; 0 for the others.

    Columns are ranks of steps; a short response has fewer of them.
    """
    kept = (returns * exists).view(-1, group_size, returns.shape[1])
    count = exists.view_as(kept).sum(1, keepdim=True)
    mean = kept.sum(1, keepdim=True) / count.clamp(min=1)
    return (kept - mean).view_as(returns) * exists


def clipped_loss(
    new: Tensor, old: Tensor, advantage: Tensor, clip: float, clip_above: float | None = None
) -> tuple[Tensor, Tensor]:
    """Compute −min(ρA, clip(ρ, 1 ± ε)A), ρ = exp(new − old), and a mask of where the clipped branch is smaller.

    With `clip_above` the ratio is clipped to [1 − ε, 1 + that].
    """
    ratio = (new - old).exp()
    clipped_ratio = ratio.clamp(1 - clip, 1 + (clip if clip_above is None else clip_above))
    free = ratio * advantage
    bounded = clipped_ratio * advantage
    return -torch.minimum(free, bounded), bounded < free


def k3(new: Tensor, reference: Tensor) -> Tensor:
    """Estimate KL(new ‖ reference) by exp(δ) − δ − 1 ≥ 0, δ = reference − new."""
    delta = reference - new
    return delta.exp() - delta - 1


def k2(new: Tensor, reference: Tensor) -> Tensor:
    """Estimate KL(new ‖ reference) by δ²/2 ≥ 0, δ = new − reference; its gradient is that of the divergence [ESPO]."""
    return (new - reference).square() / 2


def clamped_importance(surrogate_old: Tensor, behaviour: Tensor, clamp: float) -> Tensor:
    """Compute min(C, π_sur,old / π_true,old) per token [DiFFPO], reweighting the sampler's tokens to the surrogate."""
    return (surrogate_old - behaviour).exp().clamp(max=clamp)


# --- distribution matching --------------------------------------------------------------------------------------------


def group_softmax(logits: Tensor, group_size: int) -> Tensor:
    """Compute G · softmax over each group [B], so that the group mean is 1."""
    groups = logits.view(-1, group_size)
    share = torch.softmax(groups, dim=1)
    return (group_size * share).flatten()


def softmax_difference(logits: Tensor, together: int, negative: bool) -> Tensor:
    """Compute softmax(−ℓ) − softmax(ℓ) [B] over each run of `together` rows [wd1], divided by the number of runs.

    Without `negative` the first term is left out. Equal logits give zeros with it.
    """
    runs = logits.split(together)
    weights = []
    for run in runs:
        up = run.softmax(0)
        down = (-run).softmax(0) if negative else torch.zeros_like(run)
        weights.append(down - up)
    return torch.cat(weights) / len(runs)


def clamped_softmax(log_weight: Tensor, group_size: int, clamp: float) -> Tensor:
    """Compute softmax(min(log w, log C)) over each group [B], C = `clamp`: weights that sum to 1 [StableDRL]."""
    bounded = log_weight.clamp(max=math.log(clamp))
    return group_softmax(bounded, group_size) / group_size


def above(log_weight: Tensor, clamp: float) -> Tensor:
    """Return 1.0 for each weight above the clamp, 0.0 for the others [B]."""
    return (log_weight > math.log(clamp)).float()


def effective_sample_size(weight: Tensor, group_size: int) -> Tensor:
    """Compute each group's effective share 1 / (G Σ softmax²) in [1/G, 1], repeated for its rows [B]."""
    share = weight.view(-1, group_size) / group_size
    effective = 1 / (group_size * share.square().sum(1))
    return effective.repeat_interleave(group_size)


def binned(weight: Tensor) -> dict[str, Tensor]:
    """Return an indicator [B] per bin of WEIGHT_EDGES, named after the bin's lower edge."""
    indicators = {}
    for low, high in itertools.pairwise([*WEIGHT_EDGES, torch.inf]):
        inside = (weight >= low) & (weight < high)
        indicators[f"weight_from_{low:g}"] = inside.float()
    return indicators


def coefficient_for(logits: Tensor, group_size: int, target: float, halvings: int = 40) -> Tensor:
    """Find each group's largest coefficient c in (0, 1] with an effective sample size of at least `target` [B].

    The effective sample size of softmax(c · ℓ) decreases in c, so bisection finds it.
    """

    def reaches(coefficient: Tensor) -> Tensor:
        weight = group_softmax(coefficient * logits, group_size)
        return effective_sample_size(weight, group_size) >= target

    # `low` always reaches the target, `high` does not; all groups are bisected in parallel.
    ones = torch.ones_like(logits)
    low, high = torch.zeros_like(logits), ones
    for _ in range(halvings):
        middle = (low + high) / 2
        reached = reaches(middle)
        low = torch.where(reached, middle, low)
        high = torch.where(reached, high, middle)
    # Bisection only approaches 1, so groups that need no shrinking get exactly 1.
    return torch.where(reaches(ones), ones, low)


def wddo_loss(weight: Tensor, ratio_up: Tensor, ratio_down: Tensor, beta: float, negative: float) -> Tensor:
    """Compute −[w log σ(βΔ) + a log σ(−βΔ)] [B], Δ = log p_θ − log p_old; each term has its own estimate of Δ.

    With w = p*/p_old and a = β = 1, its expectation under p_old is minimal at p_θ = p* [DMPO, WDDO].
    """
    up = weight * F.logsigmoid(beta * ratio_up)
    down = negative * F.logsigmoid(-beta * ratio_down)
    return -(up + down)


def regression(log_ratio: Tensor, length: int, target: Tensor, clamp: float) -> tuple[Tensor, Tensor]:
    """Compute (Δ/L − target)² of each log-ratio Δ [B, N] summed over N [B], and a mask of what is clamped [GDSD].

    With `clamp` ε > 0, Δ is clamped to [log(1 − ε), log(1 + ε)], so that it has a gradient only in between.
    """
    outside = torch.zeros_like(log_ratio, dtype=torch.bool)
    if clamp:
        low, high = math.log1p(-clamp), math.log1p(clamp)
        outside = (log_ratio < low) | (log_ratio > high)
        log_ratio = log_ratio.clamp(low, high)
    error = log_ratio / length - target[:, None]
    return error.square().sum(1), outside


def gaussian_log_prob(logit: Tensor, mean: Tensor, sigma: float) -> Tensor:
    """Compute log N(z; μ, σ²) [B] of the recorded logits [B, N], summed over those drawn (the others are NaN)."""
    # Undrawn entries are zeroed twice: first to keep NaN out of the arithmetic, then to drop the constant terms.
    drawn = ~logit.isnan()
    deviation = torch.where(drawn, logit - mean, 0.0)
    z = deviation / sigma
    each = -0.5 * z.square() - math.log(sigma) - 0.5 * math.log(2 * math.pi)
    return torch.where(drawn, each, 0.0).sum(1)
