"""Exact values by enumeration of the tabular model that only tests need."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unmask.models.tabular import TabularModel, all_responses, conditional, subsets


def consistent_model(log_joint: Tensor, vocabulary: int, length: int) -> TabularModel:
    """Build the model whose every prediction is a conditional of one joint distribution of responses, log_joint [V^L].

    For such a model, and only for such a model, p_θ(o; σ) is the same in all orders σ and the ELBO equals the
    log-likelihood.
    """
    model = TabularModel(vocabulary, length, 0.0, torch.Generator())
    responses = all_responses(model)

    # Decode every table row back into its state, then find the responses that agree with its unmasked positions.
    place = (vocabulary + 1) ** torch.arange(length)
    states = torch.arange(len(model.table))[:, None] // place % (vocabulary + 1)
    agrees = ((states[:, None] == vocabulary) | (states[:, None] == responses)).all(2)

    # Marginal mass of each token at each position over the agreeing responses, in float64; the softmax normalises it.
    # The clamp keeps the log finite where a token has no mass, as the other tokens at an unmasked position.
    tokens = nn.functional.one_hot(responses, vocabulary + 1).double()
    mass = torch.einsum("sn,nlv->slv", agrees * log_joint.double().exp(), tokens)
    model.table.data = mass.clamp(min=1e-30).log().float()
    return model


def exact_elbo(model: TabularModel) -> Tensor:
    """Compute the exact ELBO of every response [V^L].

    It is Σ_m (1/L)(L/m) · mean over masked sets of size m of Σ_{d masked} log π_θ.
    """
    responses, length = all_responses(model), model.length
    by_size: dict[int, list[Tensor]] = {}
    for masked in subsets(length)[1:]:
        scores = (conditional(model, responses, ~masked) * masked).sum(1)
        by_size.setdefault(int(masked.sum()), []).append(scores)
    # (1/L)(L/m): the number of masked tokens m is uniform over 1..L, and its terms are weighted by L/m.
    return torch.stack([torch.stack(scores).mean(0) / size for size, scores in by_size.items()]).sum(0)


def total_variation(log_p: Tensor, log_q: Tensor) -> float:
    """Return the total variation distance, half the sum of |p − q|."""
    return float((log_p.exp() - log_q.exp()).abs().sum() / 2)
