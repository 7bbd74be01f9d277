"""SPG: policy gradients on a lower bound of the likelihood of good responses and an upper bound of that of bad ones.

Source: SPG, arXiv 2510.09541; masks and bounds as in spg/spg_trainer.py (facebookresearch/SPG at a1c7120). Lowering a
lower bound need not lower the likelihood itself, hence the upper bound. There is no ratio, no clip and no reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.config.schema.types import Count, Fraction, Positive, Whole
from unmask.methods import Method, Passes

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts


@dataclass(frozen=True)
class SpgBuffer:
    """What the updates of a buffer share."""

    advantage: Tensor  # [B]
    row_weight: Tensor  # [B] share of the response's tokens up to the first end of text, |E_i| / Σ |E_i|
    masked: Tensor | None = None  # [B, N, K, L] the N draws that updates take in turn; None if each has its own
    drop: Tensor | None = None  # [B, N, K, P]


@dataclass(frozen=True)
class SpgUpdate:
    """Random draws of an update."""

    masked: Tensor  # [B, K, L] masked response tokens of each copy
    drop: Tensor  # [B, K, P] masked prompt tokens of each copy


@dataclass(frozen=True)
class Spg(Method):
    """Sandwiched policy gradient: L⁺ where A > 0, else a mix of the upper bound and L⁺."""

    label: ClassVar = "SPG"
    colour: ClassVar = "#FF3388"
    marker: ClassVar = "X"
    dash: ClassVar = "dash-dot-dotted"
    citation: ClassVar = (
        "Chenyu Wang, Paria Rashidinejad, DiJia Su, Song Jiang, Sid Wang, Siyan Zhao, Cai Zhou, Shannon Zejiang Shen, "
        "Feiyu Chen, Tommi Jaakkola, Yuandong Tian, Bo Liu: arXiv 2510.09541 (SPG)"
    )
    recipes: ClassVar = {"spg_eubo": ("SPG, upper bound alone", "#BB8833", "P", "dotted")}
    used_if: ClassVar = {
        "micro_steps": "mask_index == 'micro_step'",
        "power": "mix > 0 and negatives",
        "mix": "negatives",
        "block": "masks == 'block'",
        "reference_sync": "False",
        "reference_mix": "False",
    }
    buffer_type: ClassVar = SpgBuffer

    power: Positive = 1.5  # β of the upper bound (1/β) log E[π^β]
    mix: Fraction = 0.5  # ω, share of the upper bound for negative advantages: 1 is EUBO, 0 is ELBO
    negatives: bool = True  # use responses with A ≤ 0; false is an ablation
    copies: Count = 2  # K, masked copies of each response
    masks: Literal["block", "uniform"] = "block"  # masks of the copies: blockwise as decoded, or uniform subsets
    block: Count = 32  # tokens of a block of the masks
    perturbed: Fraction = 0.15  # probability that a prompt token, or with blocks one before the block, is masked
    mask_index: Literal["update", "micro_step"] = "update"  # counter that selects the masks; released code: micro_step
    micro_steps: Count = 2  # gradient accumulation steps of the released code, for mask_index micro_step
    # Rows of a micro-batch, over whose tokens the released code averages; 0: the whole buffer.
    micro_batch_rows: Whole = 0

    def passes(self, updates: int, steps: int) -> Passes:
        """Count one pass with gradient per copy; nothing is scored beforehand."""
        return Passes(update=self.copies, copies=self.copies)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> SpgBuffer:
        """Compute advantages and the weights of responses by their lengths."""
        advantage = rl.losses.group_advantages(rollouts.reward, rollouts.group_size)
        weight = rl.clipped_ratio.token_weights(rollouts.loss_mask, self.micro_batch_rows).sum(1)
        if self.mask_index == "update":
            return SpgBuffer(advantage, weight)
        # Counted by micro-step, a row meets every gcd-th of its updates' masks, in turn.
        sets = updates // math.gcd(updates, self.micro_steps)
        draws = [self._draw(rollouts, seeds.child("masks", number)) for number in range(sets)]
        return SpgBuffer(advantage, weight, *rl.bounds.stack_draws(draws))

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: SpgBuffer, update: int, seeds: Seeds
    ) -> SpgUpdate:
        """Return the masked copies of this update.

        The released code indexes the masks of a buffer by micro-step: with as many micro-steps in an update as there
        are updates on a buffer, all updates have the same masks.
        """
        if buffer_data.masked is None or buffer_data.drop is None:
            return SpgUpdate(*self._draw(rollouts, seeds))
        number = update % buffer_data.masked.shape[1]
        return SpgUpdate(buffer_data.masked[:, number], buffer_data.drop[:, number])

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: SpgBuffer, update_data: SpgUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum −A_i · bound_i · |E_i| / Σ |E_i| over the buffer."""
        advantage = buffer_data.advantage if self.negatives else buffer_data.advantage.clamp(min=0)
        bound, lower = rl.bounds.bounds_of(
            policy.model, rollouts, update_data.masked, update_data.drop, advantage, self.power, self.mix
        )
        metrics = {"lower_bound": lower.detach(), "gap": (bound - lower).detach()}
        return -advantage * bound * buffer_data.row_weight, metrics

    def _draw(self, rollouts: Rollouts, seeds: Seeds) -> tuple[Tensor, Tensor]:
        """Draw masked response tokens [B, K, L] and prompt tokens [B, K, P]."""
        streams = rollouts.streams(seeds, "masks")
        if self.masks == "block":
            masked = rl.bounds.draw_block_masks(self.copies, self.block, rollouts.loss_mask, self.perturbed, streams)
        else:
            masked = rl.bounds.draw_uniform_masks(self.copies, rollouts.loss_mask, streams)
        drop_streams = rollouts.streams(seeds, "drop")
        return masked, rl.bounds.draw_prompt_drops(self.copies, rollouts.prompt_mask, self.perturbed, drop_streams)
