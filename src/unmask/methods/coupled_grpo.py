"""coupled-GRPO: clipped policy gradients on token probabilities from complementary masks.

Source: DiffuCoder, arXiv 2506.20639, section 4. A pair of complementary masks scores every token exactly once, given
the tokens that its mask leaves visible; the baseline of a response's advantage is the mean reward of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.config.schema.types import Count, NonNegative, Positive, Whole
from unmask.methods import Method, Passes
from unmask.rl.buffer_data import RatioBuffer, RatioUpdate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unmask.common.random_streams import Streams
    from unmask.common.seeding import Seeds
    from unmask.config.specs import RunSpec
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts, Rows


@dataclass(frozen=True)
class CoupledGrpo(Method):
    """Clipped policy gradient on the coupled surrogate with leave-one-out advantages; the prompt is never masked."""

    label: ClassVar = "coupled-GRPO"
    colour: ClassVar = "#446600"
    marker: ClassVar = "P"
    dash: ClassVar = "dash-dot-dotted"
    citation: ClassVar = (
        "Shansan Gong, Ruixiang Zhang, Huangjie Zheng, Jiatao Gu, Navdeep Jaitly, Lingpeng Kong, Yizhe Zhang: "
        "arXiv 2506.20639 (DiffuCoder)"
    )
    used_if: ClassVar = {
        "micro_steps": "mask_index == 'micro_step'",
        "reference_sync": "kl_penalty > 0",
    }
    buffer_type: ClassVar = RatioBuffer

    clip: Positive = 0.5  # ε, the ratio is clipped to 1 ± this
    kl_penalty: NonNegative = 0.01  # β, weight of the KL divergence to the reference
    mask_rate: Literal["response", "micro_batch"] = "response"  # rows that share a ratio; released code: micro_batch
    mask_index: Literal["update", "micro_step"] = "update"  # counter that selects the masks; released code: micro_step
    micro_steps: Count = 2  # gradient accumulation steps of the released code, for mask_index micro_step
    # Rows of a micro-batch, over which the released code averages tokens; 0: the whole buffer.
    micro_batch_rows: Whole = 0

    def passes(self, updates: int, steps: int) -> Passes:
        """Count three passes per scoring: one on the fully masked response, two on the pair of masks."""
        return Passes(update=3, prepare=2 * 3 * updates)

    def check(self, run: RunSpec) -> Iterator[tuple[str, str]]:
        """Refuse an index by micro-step without micro-batches: every update would use the same few masks."""
        if self.mask_index == "micro_step" and not self.micro_batch_rows:
            how = "micro_step counts micro-batches, and micro_batch_rows is 0"
            yield "mask_index", f"{how}; set micro_batch_rows, or mask_index: update"

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> RatioBuffer:
        """Compute advantages, and old and reference log-probabilities on each update's pair of masks."""
        advantage = rl.losses.leave_one_out_advantages(rollouts.reward, rollouts.group_size)
        return rl.clipped_ratio.prepare_ratios(
            policy, rollouts, updates, seeds, self._draw, _score, advantage, self.micro_batch_rows
        )

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: RatioBuffer, update: int, seeds: Seeds
    ) -> RatioUpdate:
        """Return this update's pair of masks and the log-probabilities on it.

        The released code indexes by micro-step. The micro-batches of a device are consecutive rows of the buffer, so
        with 2 of them and 2 updates, half of each group only ever sees the first pair of masks and the other half the
        second.
        """
        if self.mask_index == "update":
            return rl.clipped_ratio.at_update(buffer_data, update)
        # Micro-batches are blocks of consecutive rows, and each device cycles through its micro-steps.
        micro_batch = rollouts.row_index // (self.micro_batch_rows or len(rollouts))
        micro_step = micro_batch % self.micro_steps
        return rl.clipped_ratio.at_micro_step(buffer_data, update, micro_step, self.micro_steps)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: RatioBuffer, update_data: RatioUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Average −min(ρA, clip(ρ)A) + β · k3 over the tokens of the buffer, or of each micro-batch."""
        new = _score(policy.model, rollouts, update_data.masks)
        return rl.clipped_ratio.ratio_loss(new, rollouts, buffer_data, update_data, self.clip, self.kl_penalty)

    def _draw(self, rollouts: Rollouts, streams: Streams) -> Rows:
        # Number of consecutive rows that share a mask ratio.
        together = 1 if self.mask_rate == "response" else self.micro_batch_rows or len(rollouts)
        rate, first = rl.likelihoods.draw_coupled(rollouts.length, streams, together)
        return {"rate": rate, "first": first}


def _score(model: nn.Module, rollouts: Rollouts, masks: Rows) -> Tensor:
    return rl.likelihoods.coupled(model, *rollouts.inputs, masks["rate"], masks["first"])
