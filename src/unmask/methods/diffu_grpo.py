"""diffu-GRPO, the RL stage of d1: clipped policy gradients on mean-field token probabilities.

Source: d1, arXiv 2504.12216, section 3. Every update scores the response under its own random masking of the prompt,
shared by the old, reference and current policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unmask.config.kinds import Count, NonNegative, Positive, Share, Whole
from unmask.likelihood import draw_prompt_drop, mean_field
from unmask.methods import Method, Rows
from unmask.models.policy import Policy
from unmask.objectives import group_advantages
from unmask.ratios import at_micro_step, at_update, prepare_ratios, ratio_loss
from unmask.rollout import Rollouts
from unmask.seeding import Seeds


@dataclass(frozen=True)
class DiffuGrpo(Method):
    """Group advantages, ratio clipping and a KL penalty to the reference."""

    clip: Positive  # ε
    kl_penalty: NonNegative  # β
    prompt_mask: Share  # probability that a prompt token is masked
    mask_index: Literal["update", "micro_step"]  # what counts the prompt maskings; micro_step as in the released code
    micro_steps: Count  # accumulation steps of the released code, where mask_index is micro_step
    micro_batch_rows: Whole  # rows whose tokens are averaged, then the averages, as in the released code; 0: all rows

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """Advantages, and old and reference log-probabilities under each update's prompt masking."""
        advantage = group_advantages(rollouts.reward, rollouts.group_size)
        return prepare_ratios(policy, rollouts, updates, seeds, self._draw, _score, advantage, self.micro_batch_rows)

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """The prompt masking of this update and the log-probabilities under it.

        The released code counts micro-steps: with 2 of them and an even number of updates, the first half of the rows
        only ever sees the even maskings and the second half the odd ones.
        """
        if self.mask_index == "update":
            return at_update(fixed, update)
        micro_step = torch.arange(len(rollouts), device=rollouts.reward.device) * self.micro_steps // len(rollouts)
        return at_micro_step(fixed, update, micro_step, self.micro_steps)

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over the tokens of the buffer, or of each micro-batch, of −min(ρA, clip(ρ)A) + β · k3."""
        new = _score(policy.model, rollouts, fresh)
        return ratio_loss(new, rollouts, fixed, fresh, self.clip, self.kl_penalty)

    def _draw(self, rollouts: Rollouts, generator: torch.Generator) -> Rows:
        return {"drop": draw_prompt_drop(rollouts.prompt_mask, self.prompt_mask, generator)}


def _score(model: nn.Module, rollouts: Rollouts, noise: Rows) -> Tensor:
    return mean_field(model, *rollouts.inputs, noise["drop"])
