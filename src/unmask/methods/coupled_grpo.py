"""coupled-GRPO: clipped policy gradients on token probabilities from complementary masks.

Source: DiffuCoder, arXiv 2506.20639, section 4. A pair of complementary masks scores every token exactly once, given
the tokens that its mask leaves visible; the baseline of a response's advantage is the mean reward of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from unmask.common.random_streams import Streams
from unmask.common.seeding import Seeds
from unmask.config.schema.types import Count, NonNegative, Positive, Whole
from unmask.methods import Method
from unmask.models.policy import Policy
from unmask.rl.clipped_ratio import RatioBuffer, RatioUpdate, at_micro_step, at_update, prepare_ratios, ratio_loss
from unmask.rl.likelihoods import coupled, draw_coupled
from unmask.rl.losses import leave_one_out_advantages
from unmask.rl.rollouts import Rollouts, Rows


@dataclass(frozen=True)
class CoupledGrpo(Method):
    """Clipped policy gradient on the coupled surrogate with leave-one-out advantages; the prompt is never masked."""

    used_if: ClassVar = {
        "micro_steps": "mask_index == 'micro_step'",
        "reference_sync": "kl_penalty > 0",
    }
    buffer_type: ClassVar = RatioBuffer

    clip: Positive  # the ratio is clipped to 1 ± this
    kl_penalty: NonNegative  # weight of the KL divergence to the reference
    mask_rate: Literal["response", "micro_batch"]  # rows that share a mask ratio; the released code has micro_batch
    mask_index: Literal["update", "micro_step"]  # counter that selects the masks; the released code has micro_step
    micro_steps: Count  # gradient accumulation steps of the released code, for mask_index micro_step
    micro_batch_rows: Whole  # rows of a micro-batch, over which the released code averages tokens; 0: the whole buffer

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> RatioBuffer:
        """Compute advantages, and old and reference log-probabilities on each update's pair of masks."""
        advantage = leave_one_out_advantages(rollouts.reward, rollouts.group_size)
        return prepare_ratios(policy, rollouts, updates, seeds, self._draw, _score, advantage, self.micro_batch_rows)

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: RatioBuffer, update: int, seeds: Seeds
    ) -> RatioUpdate:
        """Return this update's pair of masks and the log-probabilities on it.

        The released code indexes by micro-step. The micro-batches of a device are consecutive rows of the buffer, so
        with 2 of them and 2 updates, half of each group only ever sees the first pair of masks and the other half the
        second.
        """
        if self.mask_index == "update":
            return at_update(buffer_data, update)
        # Micro-batches are blocks of consecutive rows, and each device cycles through its micro-steps.
        row = torch.arange(len(rollouts), device=rollouts.reward.device)
        micro_step = row // (self.micro_batch_rows or len(rollouts)) % self.micro_steps
        return at_micro_step(buffer_data, update, micro_step, self.micro_steps)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: RatioBuffer, update_data: RatioUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Average −min(ρA, clip(ρ)A) + β · k3 over the tokens of the buffer, or of each micro-batch."""
        new = _score(policy.model, rollouts, update_data.masks)
        return ratio_loss(new, rollouts, buffer_data, update_data, self.clip, self.kl_penalty)

    def _draw(self, rollouts: Rollouts, streams: Streams) -> Rows:
        # Number of consecutive rows that share a mask ratio.
        together = 1 if self.mask_rate == "response" else self.micro_batch_rows or len(rollouts)
        rate, first = draw_coupled(rollouts.length, streams, together)
        return {"rate": rate, "first": first}


def _score(model: nn.Module, rollouts: Rollouts, masks: Rows) -> Tensor:
    return coupled(model, *rollouts.inputs, masks["rate"], masks["first"])
