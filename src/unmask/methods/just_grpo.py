"""JustGRPO: plain GRPO on responses that are sampled from left to right, whose token probabilities are exact.

Source: JustGRPO, arXiv 2601.15165, and its code (grpo.py and train.py of LeapLabTHU/JustGRPO at eebe50e). Position t is
scored with the earlier tokens given and the later ones masked, in a forward pass of its own: L passes in an update.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unmask import rl
from unmask.config.schema.types import Count, Positive, Whole
from unmask.methods import Method, Passes

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.config.specs import RunSpec
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts
    from unmask.rl.trajectories import Spans


@dataclass(frozen=True)
class JustGrpoBuffer:
    """What the updates of a buffer share."""

    advantage: Tensor  # [B]
    weight: Tensor  # [B] of each token in the loss


@dataclass(frozen=True)
class JustGrpoUpdate:
    """Positions of an update and the probabilities that they had."""

    spans: Spans  # [B, K] positions, one a span
    scale: Tensor  # [B] tokens per scored position, 1 if all are scored
    old: Tensor | None = None  # [B, L] recorded log-probabilities; None in the first update, whose ratios are 1


@dataclass(frozen=True)
class JustGrpo(Method):
    """Clipped policy gradient on exact left-to-right probabilities, with advantages divided by their deviation."""

    label: ClassVar = "JustGRPO"
    colour: ClassVar = "#442200"
    marker: ClassVar = "p"
    dash: ClassVar = "long-dashed"
    citation: ClassVar = (
        "Zanlin Ni, Shenzhi Wang, Yang Yue, Tianyu Yu, Weilin Zhao, Yeguo Hua, Tianyi Chen, Jun Song, Cheng Yu, "
        "Bo Zheng, Gao Huang: arXiv 2601.15165 (JustGRPO)"
    )
    used_if: ClassVar = {"clip": "updates_per_buffer > 1", "reference_sync": "False", "reference_mix": "False"}
    buffer_type: ClassVar = JustGrpoBuffer

    clip: Positive = 0.2  # ε, the ratio is clipped to 1 ± this
    # Random positions that are scored in an update, scaled to stand for all; 0: all. An extension, not in the paper.
    positions: Whole = 0
    # Shares of the buffer whose mean losses are summed; released code: 8, its accumulation steps.
    micro_steps: Count = 1

    def passes(self, updates: int, steps: int) -> Passes:
        """Count one pass for each scored position; nothing is scored before the updates."""
        count = min(self.positions or steps, steps)
        return Passes(update=count, copies=count, apart=True)

    def check(self, run: RunSpec) -> Iterator[tuple[str, str]]:
        """Refuse rollouts in another order, whose recorded probabilities the loss does not have."""
        if run.rollout_sampler.rule != "left_to_right":
            how = f"the loss scores tokens from left to right, and rollouts have rule: {run.rollout_sampler.rule}"
            yield "sampler", f"{how}; choose a sampler with rule: left_to_right"

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> JustGrpoBuffer:
        """Compute advantages (r − mean) / (std + 1e-4), and weights 1 / (L · responses whose advantage is not 0)."""
        advantage = rl.losses.standardised_advantages(rollouts.reward, rollouts.group_size)
        weight = rl.losses.weights_of_nonzero(advantage, self.micro_steps) / rollouts.length
        return JustGrpoBuffer(advantage, weight)

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: JustGrpoBuffer, update: int, seeds: Seeds
    ) -> JustGrpoUpdate:
        """Draw the positions of this update, among the tokens up to the first end of text."""
        tokens = rollouts.loss_mask.sum(1).long()
        count = min(self.positions or rollouts.length, rollouts.length)
        streams = rollouts.streams(seeds, "positions")
        spans = rl.trajectories.choose_steps(tokens, count, "random", streams, rollouts.position, None)
        return JustGrpoUpdate(spans, (tokens / count).clamp(min=1), rollouts.log_prob_t1 if update else None)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: JustGrpoBuffer, update_data: JustGrpoUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −min(ρA, clip(ρ, 1 ± ε)A), summed over the positions under their weight."""
        return self._of_spans(policy, rollouts, buffer_data, update_data, update_data.spans)

    def losses(
        self, policy: Policy, rollouts: Rollouts, buffer_data: JustGrpoBuffer, update_data: JustGrpoUpdate
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield the loss in parts of at most `micro_batch_size` sequences, whose activations alone exist at once."""
        for some in rollouts.copies_at_once(update_data.spans.first.shape[1]):
            yield self._of_spans(policy, rollouts, buffer_data, update_data, update_data.spans.select(some))

    def _of_spans(
        self, policy: Policy, rollouts: Rollouts, buffer_data: JustGrpoBuffer, update_data: JustGrpoUpdate, spans: Spans
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the part of the loss that these positions add, and of the metrics."""
        scored = spans.scored(rollouts.position).any(1)
        new = rl.trajectories.token_scores(policy.model, *rollouts.inputs, rollouts.position, spans).sum(1)
        old = new.detach() if update_data.old is None else update_data.old
        token, clipped = rl.losses.clipped_loss(new, old, buffer_data.advantage[:, None], self.clip)
        rows = (token * scored).sum(1) * update_data.scale * buffer_data.weight
        counted = rollouts.loss_mask.sum(1) / update_data.scale
        return rows, {"clipped": (clipped * scored).sum(1) / counted}
