"""DiFFPO: policy gradients through a better surrogate policy, corrected for the tokens the sampler really drew.

Source: DiFFPO, arXiv 2510.02212. Two ingredients, each with its switch: the two-stage surrogate (2-MF) instead of the
mean field, and clamped importance weights from the recorded behaviour probabilities to the surrogate's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unmask.likelihood import draw_stage, mean_field, two_stage
from unmask.methods import Method, Rows
from unmask.models.policy import Policy
from unmask.objectives import clamped_importance, group_advantages
from unmask.ratios import at_update, prepare_ratios, ratio_loss
from unmask.rollout import Rollouts
from unmask.seeding import Seeds
from unmask.settings import NonNegative, Positive


@dataclass(frozen=True)
class Diffpo(Method):
    """Clipped loss on the surrogate policy times min(C, π_sur,old / π_true,old)."""

    clip: Positive  # ε; not public, ours
    kl_penalty: NonNegative  # β; not public, ours
    surrogate: Literal["mean_field", "two_stage"]
    importance_sampling: bool
    clamp: Positive  # C; not public, ours

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """Advantages, and old and reference log-probabilities at each update's stage τ."""
        advantage = group_advantages(rollouts.reward, rollouts.group_size)
        return prepare_ratios(policy, rollouts, updates, seeds, _draw, self._score, advantage)

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """The stage of this update and the log-probabilities at it."""
        return at_update(fixed, update)

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """The clipped loss, each token times its importance weight; logs the share of weights at the clamp C."""
        new = self._score(policy.model, rollouts, fresh)
        if not self.importance_sampling:
            return ratio_loss(new, rollouts, fixed, fresh, self.clip, self.kl_penalty)
        weight = clamped_importance(fresh["old"], rollouts.log_prob_t1, self.clamp)
        rows, metrics = ratio_loss(new, rollouts, fixed, fresh, self.clip, self.kl_penalty, weight)
        tokens = rollouts.counted.sum(1)
        return rows, metrics | {
            "importance_mean": (weight * rollouts.counted).sum(1) / tokens,
            "clamped": ((weight >= self.clamp) * rollouts.counted).sum(1) / tokens,
        }

    def _score(self, model: nn.Module, rollouts: Rollouts, noise: Rows) -> Tensor:
        if self.surrogate == "two_stage":
            return two_stage(model, *rollouts.inputs, rollouts.step, noise["tau"])
        return mean_field(model, *rollouts.inputs, torch.zeros_like(rollouts.prompt_mask))


def _draw(rollouts: Rollouts, generator: torch.Generator) -> Rows:
    return {"tau": draw_stage(rollouts.nfe, generator)}
