"""coupled-GRPO: clipped policy gradients on token probabilities from complementary masks.

Source: DiffuCoder, arXiv 2506.20639, section 4. The pair of masks scores every token exactly once, with some of the
others given; the advantage leaves the response itself out of its baseline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unmask.config.kinds import Count, NonNegative, Positive, Whole
from unmask.likelihood import coupled, draw_coupled
from unmask.methods import Method, Rows
from unmask.models.policy import Policy
from unmask.objectives import leave_one_out_advantages
from unmask.ratios import at_micro_step, at_update, prepare_ratios, ratio_loss
from unmask.rollout import Rollouts
from unmask.seeding import Seeds


@dataclass(frozen=True)
class CoupledGrpo(Method):
    """Leave-one-out advantages on the coupled surrogate; the prompt is never masked."""

    clip: Positive  # ε
    kl_penalty: NonNegative  # β
    mask_rate: Literal["response", "micro_batch"]  # what has a rate of its own; micro_batch as in the released code
    mask_index: Literal["update", "micro_step"]  # what counts the pairs of masks; micro_step as in the released code
    micro_steps: Count  # accumulation steps of the released code, where mask_index is micro_step
    micro_batch_rows: Whole  # rows whose tokens are averaged, then the averages, as in the released code; 0: all rows

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """Advantages, and old and reference log-probabilities on each update's pair of masks."""
        advantage = leave_one_out_advantages(rollouts.reward, rollouts.group_size)
        return prepare_ratios(policy, rollouts, updates, seeds, self._draw, _score, advantage, self.micro_batch_rows)

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """The pair of masks of this update and the log-probabilities on it.

        The released code counts micro-steps. A device's micro-batches follow one another in the buffer, so with 2 of
        them and 2 updates, half of each group only ever sees the first pair of masks and the other half the second.
        """
        if self.mask_index == "update":
            return at_update(fixed, update)
        row = torch.arange(len(rollouts), device=rollouts.reward.device)
        micro_step = row // (self.micro_batch_rows or len(rollouts)) % self.micro_steps
        return at_micro_step(fixed, update, micro_step, self.micro_steps)

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over the tokens of the buffer, or of each micro-batch, of −min(ρA, clip(ρ)A) + β · k3."""
        new = _score(policy.model, rollouts, fresh)
        return ratio_loss(new, rollouts, fixed, fresh, self.clip, self.kl_penalty)

    def _draw(self, rollouts: Rollouts, generator: torch.Generator) -> Rows:
        together = 1 if self.mask_rate == "response" else self.micro_batch_rows or len(rollouts)
        rate, first = draw_coupled(tuple(rollouts.response.shape), generator, together)
        return {"rate": rate, "first": first}


def _score(model: nn.Module, rollouts: Rollouts, noise: Rows) -> Tensor:
    return coupled(model, *rollouts.inputs, noise["rate"], noise["first"])
