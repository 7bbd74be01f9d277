"""wd1: weighted likelihood, with a softmax of the advantages as weights and no policy ratio.

Source: wd1, arXiv 2507.08838; weights and sum as in wd1/trainers/rev_grpo_trainer.py, lines 144-160 (xiaohangt/wd1 at
0898985). Token probabilities are d1's mean field, of the current policy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unmask import rl
from unmask.config.schema.types import Fraction, Positive, Whole
from unmask.methods import Method, Passes

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts


@dataclass(frozen=True)
class Wd1Buffer:
    """What the updates of a buffer share."""

    weight: Tensor  # [B] w⁻ − w⁺, divided by the number of softmaxes in the buffer


@dataclass(frozen=True)
class Wd1Update:
    """Random draws of an update."""

    drop: Tensor  # [B, P] prompt tokens that are masked


@dataclass(frozen=True)
class Wd1(Method):
    """Raise the likelihood of responses by softmax(ψA) and lower it by softmax(−ψA)."""

    label: ClassVar = "wd1"
    colour: ClassVar = "#AA77FF"
    marker: ClassVar = "v"
    dash: ClassVar = "long-dashed"
    citation: ClassVar = "Xiaohang Tang, Rares Dolga, Sangwoong Yoon, Ilija Bogunovic: arXiv 2507.08838 (wd1)"
    used_if: ClassVar = {"reference_sync": "False", "reference_mix": "False"}
    buffer_type: ClassVar = Wd1Buffer

    psi: Positive = 1.0  # ψ, inverse temperature of the weights; the released code has none, which is 1
    negative: bool = True  # lower the likelihood by softmax(−ψA); false is an ablation, wd1-P
    prompt_mask: Fraction = 0.15  # probability that a prompt token is masked
    # Rows of a softmax, those of a device in the released code, which are one group; 0: the group.
    micro_batch_rows: Whole = 0

    def passes(self, updates: int, steps: int) -> Passes:
        """Count one pass with gradient per response and update; nothing else is scored."""
        return Passes(update=1)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Wd1Buffer:
        """Compute the weights."""
        advantage = rl.losses.group_advantages(rollouts.reward, rollouts.group_size)
        together = self.micro_batch_rows or rollouts.group_size
        return Wd1Buffer(rl.losses.softmax_difference(self.psi * advantage, together, self.negative))

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: Wd1Buffer, update: int, seeds: Seeds
    ) -> Wd1Update:
        """Draw the prompt tokens to mask in this update."""
        streams = rollouts.streams(seeds, "drop")
        return Wd1Update(rl.likelihoods.draw_prompt_drop(rollouts.prompt_mask, self.prompt_mask, streams))

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: Wd1Buffer, update_data: Wd1Update
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum (w⁻ − w⁺) Σ_d log π_θ(o_d | q') over a group, d up to the first end of text; average over groups."""
        token = rl.likelihoods.mean_field(policy.model, *rollouts.inputs, update_data.drop)
        likelihood = (token * rollouts.loss_mask).sum(1)
        return buffer_data.weight * likelihood, {"log_likelihood": likelihood.detach()}
