"""coupled-GRPO: clipped policy gradients on token probabilities from complementary masks.

Source: DiffuCoder, arXiv 2506.20639, section 4. The pair of masks scores every token exactly once, with some of the
others given; the advantage leaves the response itself out of its baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unmask.config.kinds import NonNegative, Positive
from unmask.likelihood import coupled, draw_coupled
from unmask.methods import Method, Rows
from unmask.models.policy import Policy
from unmask.objectives import leave_one_out_advantages
from unmask.ratios import at_update, prepare_ratios, ratio_loss
from unmask.rollout import Rollouts
from unmask.seeding import Seeds


@dataclass(frozen=True)
class CoupledGrpo(Method):
    """Leave-one-out advantages on the coupled surrogate; the prompt is never masked."""

    clip: Positive  # ε
    kl_penalty: NonNegative  # β

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """Advantages, and old and reference log-probabilities on each update's pair of masks."""
        advantage = leave_one_out_advantages(rollouts.reward, rollouts.group_size)
        return prepare_ratios(policy, rollouts, updates, seeds, _draw, _score, advantage)

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """The pair of masks of this update and the log-probabilities on it."""
        return at_update(fixed, update)

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over the buffer's tokens of −min(ρA, clip(ρ)A) + β · k3."""
        new = _score(policy.model, rollouts, fresh)
        return ratio_loss(new, rollouts, fixed, fresh, self.clip, self.kl_penalty)


def _draw(rollouts: Rollouts, generator: torch.Generator) -> Rows:
    rate, first = draw_coupled(tuple(rollouts.response.shape), generator)
    return {"rate": rate, "first": first}


def _score(model: nn.Module, rollouts: Rollouts, noise: Rows) -> Tensor:
    return coupled(model, *rollouts.inputs, noise["rate"], noise["first"])
