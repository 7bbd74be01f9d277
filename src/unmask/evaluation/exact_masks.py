"""Masked copies of the surrogates with their probabilities: every draw that rl/ can make, for short responses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from unmask.evaluation.exact_errors import Part, Score, inputs_of, repeated
from unmask.models.tabular import TabularModel, subsets
from unmask.rl import bounds, likelihoods
from unmask.rl.elbo_masks import gauss_legendre, quadrature_sizes
from unmask.rl.likelihoods import Copies

NODES = 16  # of the quadrature over a continuous mask ratio, whose integrand is smooth: exact to rounding
POWER = 1.5  # β of the upper bound, SPG's setting
MIX = 0.5  # ω, share of the upper bound in the mixed one, SPG's setting
PERTURBED = 0.15  # probability that a token before the block is masked, SPG's setting


def mean_field_score(model: TabularModel) -> Tensor:
    """Return the mean field, which has a single draw [1, R]."""
    inputs, responses = inputs_of(model, 1)
    return likelihoods.mean_field(model, *inputs).sum(1).view(-1, responses)


def pair_part(length: int) -> Part:
    """Return an antithetic pair: a uniform subset of size U{0..L} and its complement, weights (L + 1)/m [ESPO]."""
    masks = torch.stack(subsets(length))
    size = masks.sum(1)
    probability = torch.tensor([1 / ((length + 1) * math.comb(length, int(m))) for m in size], dtype=torch.double)
    pairs = torch.stack((masks, ~masks), 1)
    return Part(_elbo(pairs, length + 1), probability[:, None])


def single_part(length: int) -> Part:
    """Return one copy: a uniform subset of size U{1..L} with weight L/m."""
    masks = torch.stack(subsets(length)[1:])
    probability = torch.tensor([1 / (length * math.comb(length, int(m))) for m in masks.sum(1)], dtype=torch.double)
    return Part(_elbo(masks[:, None], length), probability[:, None])


def bernoulli_part(length: int) -> Part:
    """Return the pair of DMPO's released code: λ ~ U(0.1, 1), each token masked with probability λ, weights L/m."""
    masks = torch.stack(subsets(length))
    probability = torch.zeros(len(masks), dtype=torch.double)
    for rate, share in _over(0.1, 1.0):
        probability += share * _bernoulli(masks, rate)
    pairs = torch.stack((masks, ~masks), 1)
    return Part(_elbo(pairs, length), probability[:, None])


def quadrature_parts(nodes: int, length: int) -> Iterator[Part]:
    """Yield a part for each node of the quadrature in t: a uniform subset of its size, weight w_n L/m_n [GDPO]."""
    _, weights = gauss_legendre(nodes)
    for weight, size in zip(weights.tolist(), quadrature_sizes(nodes, length).tolist(), strict=True):
        masks = torch.stack([mask for mask in subsets(length) if int(mask.sum()) == size])
        probability = torch.full((len(masks), 1), 1 / len(masks), dtype=torch.double)
        yield Part(_elbo(masks[:, None], length), probability, factor=weight)


def coupled_part(length: int) -> Part:
    """Return coupled-GRPO's draws: a ratio t ~ U(0.2, 0.8) and a mask in which each token is with probability t."""
    masks = torch.stack(subsets(length))
    rates, first, probability = [], [], []
    for rate, share in _over(0.2, 0.8):
        rates.append(torch.full((len(masks),), rate, dtype=torch.double))
        first.append(masks)
        probability.append(share * _bernoulli(masks, rate))
    every_rate, every_mask = torch.cat(rates), torch.cat(first)

    def score(model: TabularModel) -> Tensor:
        inputs, responses = inputs_of(model, len(every_mask))
        rate, mask = repeated(model, every_rate), repeated(model, every_mask)
        return likelihoods.coupled(model, *inputs, rate, mask).sum(1).view(-1, responses)

    return Part(score, torch.cat(probability)[:, None])


def block_part(length: int, block: int, bound: Callable[..., Tensor]) -> Part:
    """Return all sets of blockwise masks with one copy for each block of `block` tokens; `perturbed` is 0.15 [SPG]."""
    copies = [list(block_masks(length, block, number, PERTURBED)) for number in range(length // block)]
    chosen = list(itertools.product(*copies))
    masks = torch.stack([torch.stack([mask for mask, _ in one]) for one in chosen])
    probability = torch.tensor([math.prod(share for _, share in one) for one in chosen], dtype=torch.double)

    def score(model: TabularModel) -> Tensor:
        inputs, responses = inputs_of(model, len(masks))
        masked = repeated(model, masks)
        scores = likelihoods.copy_log_probs(model, *inputs, masked)
        ends = torch.ones(len(masked), length, dtype=scores.dtype)
        return length * bound(scores, masked, ends).view(-1, responses)

    return Part(score, probability[:, None])


def mixed_bound(scores: Tensor, scored: Tensor, ends: Tensor) -> Tensor:
    """Return SPG's bound for negative advantages: half of the upper and half of the lower one."""
    negative = -torch.ones(len(scores))
    bound, _ = bounds.sandwich(scores, scored, ends, negative, POWER, MIX)
    return bound


def block_masks(length: int, block: int, number: int, perturbed: float) -> Iterator[tuple[Tensor, float]]:
    """Yield every mask of the block with this number, and its probability: see `bounds.draw_block_masks`."""
    start = number * block
    stop = min(start + block, length)
    for inside in itertools.product((False, True), repeat=stop - start):
        if not any(inside):
            continue
        size = sum(inside)
        share = 1 / ((stop - start) * math.comb(stop - start, size))
        for before in itertools.product((False, True), repeat=start):
            chance = math.prod(perturbed if masked else 1 - perturbed for masked in before)
            yield torch.tensor([*before, *inside, *[True] * (length - stop)]), share * chance


def _elbo(masks: Tensor, total: int) -> Score:
    """Return the ELBO on copies [n, K, L] whose weights are total/m, and 0 for an empty one."""
    size = masks.sum(2)
    weights = torch.where(size > 0, total / size.clamp(min=1).double(), 0.0)

    def score(model: TabularModel) -> Tensor:
        inputs, responses = inputs_of(model, len(masks))
        copies = Copies(repeated(model, masks), repeated(model, weights))
        return likelihoods.elbo(model, *inputs, copies).view(-1, responses)

    return score


def _over(low: float, high: float) -> Iterator[tuple[float, float]]:
    """Yield nodes and weights of Gauss–Legendre quadrature for a uniform number between the two."""
    points, weights = gauss_legendre(NODES)
    for point, weight in zip(points.tolist(), weights.tolist(), strict=True):
        yield low + (high - low) * point, weight


def _bernoulli(masks: Tensor, rate: float) -> Tensor:
    """Return the probability of each mask [n] if every token is masked with probability `rate`."""
    size = masks.sum(1).double()
    return rate**size * (1 - rate) ** (masks.shape[1] - size)
