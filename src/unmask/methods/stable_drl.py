"""StableDRL: SPG's bounds, weighted by self-normalised importance weights that are clamped whatever the advantage.

Source: StableDRL, arXiv 2603.06743; weights as in networks/llada_svpo.py, lines 1007-1037 (JianyuanZhong/StableDRL at
26ad014). The old policy is scored once, on other masks than the current one, so that a weight has the noise of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unmask import rl
from unmask.config.schema.types import Count, Fraction, Positive
from unmask.methods import Method, Passes

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts


@dataclass(frozen=True)
class StableDrlBuffer:
    """What the updates of a buffer share."""

    advantage: Tensor  # [B]
    old: Tensor  # [B] lower bound under the policy that sampled the buffer, a mean over tokens


@dataclass(frozen=True)
class StableDrlUpdate:
    """Masked copies and weights of an update."""

    masked: Tensor  # [B, K, L] masked response tokens of each copy
    drop: Tensor  # [B, K, P] masked prompt tokens of each copy
    log_weight: Tensor  # [B] Ē_θ − Ē_old, before the clamp
    weight: Tensor  # [B] v, which sums to 1 over a group
    effective_sample_size: Tensor  # [B] of the weights of the row's group, a share of its responses


@dataclass(frozen=True)
class StableDrl(Method):
    """Gradient of Σ v A · bound with v = softmax(min(log C, Ē_θ − Ē_old)) over the group."""

    label: ClassVar = "StableDRL"
    colour: ClassVar = "#AA77FF"
    marker: ClassVar = "h"
    dash: ClassVar = "dashed"
    citation: ClassVar = (
        "Stabilizing Reinforcement Learning for Diffusion Language Models: arXiv 2603.06743 (StableDRL)"
    )
    used_if: ClassVar = {
        "power": "mix > 0",
        "reference_sync": "False",
        "reference_mix": "False",
    }
    buffer_type: ClassVar = StableDrlBuffer

    clamp: Positive = 5.0  # C, largest importance weight
    power: Positive = 1.5  # β of the upper bound (1/β) log E[π^β]
    mix: Fraction = 0.5  # ω, share of the upper bound for negative advantages
    copies: Count = 2  # K, masked copies of each response
    block: Count = 32  # tokens of a block of the masks
    perturbed: Fraction = 0.15  # probability that a token of the prompt or before the block is masked

    def passes(self, updates: int, steps: int) -> Passes:
        """Count the copies of the old policy once, and those of the current one for the weights and for the loss."""
        k = self.copies
        return Passes(update=k, prepare=k, refresh=k, copies=k, scored=k)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> StableDrlBuffer:
        """Compute advantages and the old policy's lower bounds, on masks of their own."""
        advantage = rl.losses.group_advantages(rollouts.reward, rollouts.group_size)
        return StableDrlBuffer(advantage, self._lower(policy, rollouts, *self._draw(rollouts, seeds)))

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: StableDrlBuffer, update: int, seeds: Seeds
    ) -> StableDrlUpdate:
        """Draw the masked copies of this update and compute the weights, which need all responses of a group."""
        masked, drop = self._draw(rollouts, seeds)
        log_weight = self._lower(policy, rollouts, masked, drop) - buffer_data.old
        size = rollouts.group_size
        weight = rl.losses.clamped_softmax(log_weight, size, self.clamp)
        effective = rl.losses.effective_sample_size(size * weight, size)
        return StableDrlUpdate(masked, drop, log_weight, weight, effective)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: StableDrlBuffer, update_data: StableDrlUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum −v_i A_i · bound_i over a group; average over groups."""
        advantage, weight = buffer_data.advantage, update_data.weight
        bound, lower = rl.bounds.bounds_of(
            policy.model, rollouts, update_data.masked, update_data.drop, advantage, self.power, self.mix
        )
        groups = rollouts.buffer_rows / rollouts.group_size
        metrics = {
            "lower_bound": lower.detach(),
            "log_ratio": update_data.log_weight,
            "clamped": rl.losses.above(update_data.log_weight, self.clamp),
            "largest_weight": weight,
            "effective_sample_size": update_data.effective_sample_size,
        }
        return -weight * advantage * bound / groups, metrics

    def _draw(self, rollouts: Rollouts, seeds: Seeds) -> tuple[Tensor, Tensor]:
        """Draw masked response tokens [B, K, L] and prompt tokens [B, K, P]."""
        streams, drop_streams = rollouts.streams(seeds, "masks"), rollouts.streams(seeds, "drop")
        masked = rl.bounds.draw_block_masks(self.copies, self.block, rollouts.loss_mask, self.perturbed, streams)
        return masked, rl.bounds.draw_prompt_drops(self.copies, rollouts.prompt_mask, self.perturbed, drop_streams)

    def _lower(self, policy: Policy, rollouts: Rollouts, masked: Tensor, drop: Tensor) -> Tensor:
        """Compute the lower bounds of the whole buffer [B] without gradients."""
        return rl.bounds.lower_bounds(policy, rollouts, masked, drop)
