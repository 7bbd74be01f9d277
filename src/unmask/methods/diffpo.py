"""DiFFPO: policy gradients through a better surrogate policy, corrected for the tokens the sampler really drew.

Source: DiFFPO, arXiv 2510.02212. Three ingredients, each with its switch: the two-stage surrogate (2-MF) instead of the
mean field, clamped importance weights from the recorded behaviour probabilities to the surrogate's, and a sampler that
learns along: the threshold it chooses is one more action, with its own ratio in the same clipped loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from unmask.adaptive import log_density
from unmask.config.kinds import NonNegative, Positive
from unmask.files import InputError
from unmask.likelihood import draw_stage, mean_field, two_stage
from unmask.methods import Method, Rows
from unmask.models.policy import Policy
from unmask.objectives import clamped_importance, clipped_loss, group_advantages
from unmask.ratios import at_update, prepare_ratios, ratio_loss
from unmask.rollout import Rollouts, RolloutSettings
from unmask.seeding import Seeds
from unmask.tasks import Example, Task


@dataclass(frozen=True)
class Diffpo(Method):
    """Clipped loss on the surrogate policy times min(C, π_sur,old / π_true,old)."""

    clip: Positive  # ε; not public, ours
    kl_penalty: NonNegative  # β; not public, ours
    surrogate: Literal["mean_field", "two_stage"]
    importance_sampling: bool
    clamp: Positive  # C; not public, ours
    learn: Literal["model", "sampler", "joint"]  # sampler and joint need an adaptive sampler in rollouts
    sigma: Positive  # noise on the threshold's logit while it learns; not public, ours
    speed_reward: NonNegative  # λ of λ(1 − NFE/L), earned by right answers while it learns; not public, ours

    def begin(self, policy: Policy) -> None:
        """Freeze what is not to be learnt."""
        if self.learn == "sampler":
            policy.model.requires_grad_(False)
        if self.learn == "model":
            super().begin(policy)
        elif policy.head is None:
            raise InputError(f"learn: {self.learn} needs a sampler with `rule: adaptive`; set methods.diffpo.sampler")

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """Rollouts with noise on the thresholds while these are learnt."""
        sigma = 0.0 if self.learn == "model" else self.sigma
        return super().collect(policy, task, examples, replace(settings, sigma=sigma), seeds)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """Advantages, old and reference log-probabilities at each update's stage τ, old density of the thresholds."""
        reward = rollouts.reward
        if self.learn != "model":
            reward = reward + self.speed_reward * rollouts.correct * (1 - rollouts.nfe / rollouts.length)
        advantage = group_advantages(reward, rollouts.group_size)
        if self.learn == "sampler":
            return {"advantage": advantage, "old_density": self._density(policy, rollouts).detach()}
        fixed = prepare_ratios(policy, rollouts, updates, seeds, self._draw, self._score, advantage)
        return fixed if self.learn == "model" else fixed | {"old_density": self._density(policy, rollouts).detach()}

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """The stage of this update and the log-probabilities at it."""
        return {} if self.learn == "sampler" else at_update(fixed, update)

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """The clipped losses of the tokens and of the thresholds, each over what is learnt."""
        rows, metrics = (0.0, {}) if self.learn == "sampler" else self._token_loss(policy, rollouts, fixed, fresh)
        if self.learn == "model":
            return rows, metrics
        new, old = self._density(policy, rollouts), fixed["old_density"]
        threshold, clipped = clipped_loss(new, old, fixed["advantage"], self.clip)
        gamma = policy.head.gamma(rollouts.threshold).detach()
        return rows + threshold / rollouts.buffer_rows, metrics | {
            "gamma": gamma.nanmean(1),
            "gamma_squared": gamma.square().nanmean(1),
            "threshold_clipped": clipped.float(),
        }

    def _token_loss(
        self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Each token's clipped loss times its importance weight; logs the share of weights at the clamp C."""
        new = self._score(policy.model, rollouts, fresh)
        if not self.importance_sampling:
            return ratio_loss(new, rollouts, fixed, fresh, self.clip, self.kl_penalty)
        weight = clamped_importance(fresh["old"], rollouts.log_prob_t1, self.clamp)
        rows, metrics = ratio_loss(new, rollouts, fixed, fresh, self.clip, self.kl_penalty, weight)
        tokens = rollouts.counted.sum(1)
        return rows, metrics | {
            "importance_mean": (weight * rollouts.counted).sum(1) / tokens,
            "importance_squared": (weight.square() * rollouts.counted).sum(1) / tokens,
            "clamped": ((weight >= self.clamp) * rollouts.counted).sum(1) / tokens,
        }

    def _density(self, policy: Policy, rollouts: Rollouts) -> Tensor:
        """Log-density [B] of the thresholds chosen, given what the sampler saw."""
        return log_density(rollouts.threshold, policy.head(rollouts.state), self.sigma)

    def _draw(self, rollouts: Rollouts, generator: torch.Generator) -> Rows:
        return {"tau": draw_stage(rollouts.nfe, generator)} if self.surrogate == "two_stage" else {}

    def _score(self, model: nn.Module, rollouts: Rollouts, noise: Rows) -> Tensor:
        if self.surrogate == "two_stage":
            return two_stage(model, *rollouts.inputs, rollouts.step, noise["tau"])
        return mean_field(model, *rollouts.inputs, torch.zeros_like(rollouts.prompt_mask))
