"""diffu-GRPO, the RL stage of d1: clipped policy gradients on mean-field token probabilities.

Source: d1, arXiv 2504.12216, section 3. Every update has its own random prompt mask, under which the old, reference and
current policy all score the response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.config.schema.types import Count, Fraction, NonNegative, Positive, Whole
from unmask.methods import Method, Passes
from unmask.rl.buffer_data import RatioBuffer, RatioUpdate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unmask.common.random_streams import Streams
    from unmask.common.seeding import Seeds
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts, Rows


@dataclass(frozen=True)
class DiffuGrpo(Method):
    """Clipped policy gradient on the mean-field surrogate with group advantages and a KL penalty to the reference."""

    label: ClassVar = "diffu-GRPO"
    colour: ClassVar = "#BB8833"
    marker: ClassVar = "s"
    dash: ClassVar = "dashed"
    citation: ClassVar = "Siyan Zhao, Devaansh Gupta, Qinqing Zheng, Aditya Grover: arXiv 2504.12216 (d1)"
    recipes: ClassVar = {"d1": ("d1", "#990055", "^", "sparsely dotted")}
    used_if: ClassVar = {
        "micro_steps": "mask_index == 'micro_step'",
        "reference_sync": "kl_penalty > 0",
    }
    buffer_type: ClassVar = RatioBuffer

    clip: Positive = 0.5  # ε, the ratio is clipped to 1 ± this
    kl_penalty: NonNegative = 0.04  # β, weight of the KL divergence to the reference
    prompt_mask: Fraction = 0.15  # probability that a prompt token is masked
    mask_index: Literal["update", "micro_step"] = "update"  # counter that selects the mask; released code: micro_step
    micro_steps: Count = 2  # gradient accumulation steps of the released code, for mask_index micro_step
    # Rows of a micro-batch, over which the released code averages tokens; 0: the whole buffer.
    micro_batch_rows: Whole = 0

    def passes(self, updates: int, steps: int) -> Passes:
        """Count the scoring of old and reference policy on each update's mask, and one pass per update."""
        # Without prompt masking all masks are equal, and one scoring serves all updates.
        masks = updates if self.prompt_mask else 1
        return Passes(update=1, prepare=2 * masks)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> RatioBuffer:
        """Compute advantages, and old and reference log-probabilities under each update's prompt mask."""
        advantage = rl.losses.group_advantages(rollouts.reward, rollouts.group_size)
        return rl.clipped_ratio.prepare_ratios(
            policy, rollouts, updates, seeds, self._draw, _score, advantage, self.micro_batch_rows
        )

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: RatioBuffer, update: int, seeds: Seeds
    ) -> RatioUpdate:
        """Return this update's prompt mask and the log-probabilities under it.

        The released code indexes by micro-step: with 2 of them and an even number of updates, the first half of the
        rows only ever sees the even-numbered masks and the second half the odd-numbered ones.
        """
        if self.mask_index == "update":
            return rl.clipped_ratio.at_update(buffer_data, update)
        # Here a micro-step covers a contiguous share of the whole buffer, unlike in coupled-GRPO's released code.
        micro_step = rollouts.row_index * self.micro_steps // len(rollouts)
        return rl.clipped_ratio.at_micro_step(buffer_data, update, micro_step, self.micro_steps)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: RatioBuffer, update_data: RatioUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Average −min(ρA, clip(ρ)A) + β · k3 over the tokens of the buffer, or of each micro-batch."""
        new = _score(policy.model, rollouts, update_data.masks)
        return rl.clipped_ratio.ratio_loss(new, rollouts, buffer_data, update_data, self.clip, self.kl_penalty)

    def _draw(self, rollouts: Rollouts, streams: Streams) -> Rows:
        return {"drop": rl.likelihoods.draw_prompt_drop(rollouts.prompt_mask, self.prompt_mask, streams)}


def _score(model: nn.Module, rollouts: Rollouts, masks: Rows) -> Tensor:
    return rl.likelihoods.mean_field(model, *rollouts.inputs, masks["drop"])
