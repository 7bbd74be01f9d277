"""diffu-GRPO, the RL stage of d1: clipped policy gradients on mean-field token probabilities.

Source: d1, arXiv 2504.12216, section 3. Every update has its own random prompt mask, under which the old, reference and
current policy all score the response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from unmask.common.random_streams import Streams
from unmask.common.seeding import Seeds
from unmask.config.schema.types import Count, Fraction, NonNegative, Positive, Whole
from unmask.methods import Method
from unmask.models.policy import Policy
from unmask.rl.clipped_ratio import RatioBuffer, RatioUpdate, at_micro_step, at_update, prepare_ratios, ratio_loss
from unmask.rl.likelihoods import draw_prompt_drop, mean_field
from unmask.rl.losses import group_advantages
from unmask.rl.rollouts import Rollouts, Rows


@dataclass(frozen=True)
class DiffuGrpo(Method):
    """Clipped policy gradient on the mean-field surrogate with group advantages and a KL penalty to the reference."""

    used_if: ClassVar = {
        "micro_steps": "mask_index == 'micro_step'",
        "reference_sync": "kl_penalty > 0",
    }
    buffer_type: ClassVar = RatioBuffer

    clip: Positive  # the ratio is clipped to 1 ± this
    kl_penalty: NonNegative  # weight of the KL divergence to the reference
    prompt_mask: Fraction  # probability that a prompt token is masked
    mask_index: Literal["update", "micro_step"]  # counter that selects the mask; the released code has micro_step
    micro_steps: Count  # gradient accumulation steps of the released code, for mask_index micro_step
    micro_batch_rows: Whole  # rows of a micro-batch, over which the released code averages tokens; 0: the whole buffer

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> RatioBuffer:
        """Compute advantages, and old and reference log-probabilities under each update's prompt mask."""
        advantage = group_advantages(rollouts.reward, rollouts.group_size)
        return prepare_ratios(policy, rollouts, updates, seeds, self._draw, _score, advantage, self.micro_batch_rows)

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: RatioBuffer, update: int, seeds: Seeds
    ) -> RatioUpdate:
        """Return this update's prompt mask and the log-probabilities under it.

        The released code indexes by micro-step: with 2 of them and an even number of updates, the first half of the
        rows only ever sees the even-numbered masks and the second half the odd-numbered ones.
        """
        if self.mask_index == "update":
            return at_update(buffer_data, update)
        # Here a micro-step covers a contiguous share of the whole buffer, unlike in coupled-GRPO's released code.
        micro_step = torch.arange(len(rollouts), device=rollouts.reward.device) * self.micro_steps // len(rollouts)
        return at_micro_step(buffer_data, update, micro_step, self.micro_steps)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: RatioBuffer, update_data: RatioUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Average −min(ρA, clip(ρ)A) + β · k3 over the tokens of the buffer, or of each micro-batch."""
        new = _score(policy.model, rollouts, update_data.masks)
        return ratio_loss(new, rollouts, buffer_data, update_data, self.clip, self.kl_penalty)

    def _draw(self, rollouts: Rollouts, streams: Streams) -> Rows:
        return {"drop": draw_prompt_drop(rollouts.prompt_mask, self.prompt_mask, streams)}


def _score(model: nn.Module, rollouts: Rollouts, masks: Rows) -> Tensor:
    return mean_field(model, *rollouts.inputs, masks["drop"])
