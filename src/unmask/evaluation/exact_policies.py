"""Old and new policies of the experiment `surrogates`: tables of logits at an exact distance from each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unmask.common.seeding import Seeds
from unmask.config.schema.surrogates import Surrogates
from unmask.models.tabular import TabularModel, kl, log_likelihood, random_modes

HALVINGS = 40  # of the interval that holds the step: the distance is exact to rounding


def old_policy(settings: Surrogates, seeds: Seeds) -> tuple[TabularModel, Tensor]:
    """Return a random policy in float64 and the reward of each response [V^L]."""
    model = TabularModel(settings.vocabulary, settings.length, settings.reference_scale, seeds.generator("old"))
    reward = random_modes(settings.vocabulary**settings.length, settings.modes, seeds.generator("modes"))
    return model.double(), reward.double()


def direction_of(kind: Literal["reward", "random"], old: TabularModel, reward: Tensor, seeds: Seeds) -> Tensor:
    """Return a direction in the table with norm 1: the gradient of the expected reward, or noise."""
    if kind == "reward":
        with torch.enable_grad():
            expected = (log_likelihood(old).exp() * reward).sum()
        (direction,) = torch.autograd.grad(expected, old.table)
    else:
        direction = torch.randn(old.table.shape, generator=seeds.generator("direction"), dtype=old.table.dtype)
    return direction / direction.norm()


@torch.no_grad()
def moved(old: TabularModel, direction: Tensor, distance: float) -> TabularModel:
    """Return the policy at KL(old ‖ new) = `distance` nats in this direction."""
    log_old = log_likelihood(old)
    new = TabularModel(old.vocabulary, old.length, 0.0, torch.Generator()).double()

    def reaches(step: float) -> bool:
        new.table.copy_(old.table + step * direction)
        return kl(log_old, log_likelihood(new)) >= distance

    # The divergence grows with the step: double it until it is enough, then bisect.
    low, high = 0.0, 1.0
    while not reaches(high):
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if reaches(middle):
            high = middle
        else:
            low = middle
    reaches(high)  # leaves the table at this step
    return new
