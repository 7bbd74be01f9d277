"""Masked copies for sequence-level ELBOs: levels stratified over rows [ESPO], and quadrature in t [GDPO].

The ELBO of a response is ∫₀¹ g(t) dt with g(t) = (1/t) E_{M~t} Σ_{d∈M} log π_θ(o_d | q, o outside of M), where each
token is in M with probability t. `likelihoods.draw_copies` draws levels at random; the schemes here spread them.
Shapes as in likelihoods.py: B responses, L tokens, K masked copies.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unmask.common.random_streams import Streams
from unmask.rl.likelihoods import Copies


def draw_stratified(copies: int, length: int, streams: Streams, rows: int) -> Copies:
    """Draw K = `copies` masks [B, K, L] in antithetic pairs whose levels are spread over each run of `rows` rows.

    Row j of a run has the level m_j = (k₀ + round(j (L + 1)/rows)) mod (L + 1), k₀ ~ U{0..L} from the stream of the
    run's first row, and its own uniform subset of m_j tokens [ESPO]. Each m_j is uniform on {0..L}, so that the
    estimate of a row is distributed as with `uniform` antithetic masks: weight (L + 1)/m, and 0 for an empty copy. Only
    sums over the rows of a run are less noisy.

    Raises ValueError for an odd number of copies.
    """
    if copies % 2:
        raise ValueError(f"antithetic copies need an even number, not {copies}")
    levels = length + 1
    drawn = streams.uniform(copies // 2, length + 1)
    noise, share = drawn.split((length, 1), dim=-1)

    # Every pair has an offset of its own, that of the first row of the run.
    offset = (share[::rows] * levels).long()
    offset = offset.repeat_interleave(rows, 0)[: len(streams)]
    row = torch.arange(len(streams), device=noise.device) % rows
    step = (2 * row * levels + rows) // (2 * rows)  # rounded to the nearest whole number
    size = (offset + step[:, None, None]) % levels

    masked = _subsets(noise, size)
    pairs = torch.stack((masked, ~masked), dim=2)
    masked = pairs.flatten(1, 2)
    count = masked.sum(-1)
    weight = torch.where(count > 0, levels / count.clamp(min=1), 0.0)
    return Copies(masked, weight)


def gauss_legendre(nodes: int) -> tuple[Tensor, Tensor]:
    """Return the nodes t_n and weights w_n [N] of Gauss–Legendre quadrature on [0, 1]; the weights sum to 1."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return torch.from_numpy((points + 1) / 2), torch.from_numpy(weights / 2)


def quadrature_sizes(nodes: int, length: int) -> Tensor:
    """Return the number of masked tokens at each node [N], m_n = min(L, max(1, round(t_n L)))."""
    points, _ = gauss_legendre(nodes)
    return (points * length).round().clamp(1, length).long()


def draw_quadrature(nodes: int, length: int, streams: Streams) -> Copies:
    """Draw one mask per node of Gauss–Legendre quadrature in t [B, N, L]: a uniform subset of m_n tokens [GDPO].

    The mean over the copies is Σ_n w_n (L/m_n) Σ_{d masked}, hence the weights N w_n L/m_n. It has two biases: that of
    the quadrature, and that of masking m_n tokens instead of each with probability t_n (`quadrature_sizes`).
    """
    _, weights = gauss_legendre(nodes)
    size = quadrature_sizes(nodes, length)
    noise = streams.uniform(nodes, length)
    masked = _subsets(noise, size.to(noise.device)[:, None])
    weight = (nodes * weights * length / size).float().to(noise.device)
    return Copies(masked, weight.expand(len(streams), nodes))


def unweighted(copies: Copies) -> Copies:
    """Return the copies with weight 1 each: a pair then scores every token once with equal weight, which is no ELBO."""
    return Copies(copies.masked, torch.ones_like(copies.weight))


def _subsets(noise: Tensor, size: Tensor) -> Tensor:
    """Return uniform subsets [..., L] of `size` [..., 1] positions, as masks."""
    # Ranks of iid noise are a uniform permutation.
    rank = noise.argsort(-1).argsort(-1)
    return rank < size
