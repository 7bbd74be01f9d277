"""ESPO: clipped policy gradients on one ratio per response, of ELBOs divided by the response length.

Source: ESPO, arXiv 2512.03759; the estimator as in espo/espo_trainer.py (ML-GSAI/ESPO at b5f2dac). The response counts
as a single action: the mask levels of its ELBO are stratified over rows, and all L tokens count, also after the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.config.schema.types import EvenInt, NonNegative, Whole
from unmask.methods import Method, Passes
from unmask.rl.buffer_data import SequenceBuffer, SequenceUpdate

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.models.policy import Policy
    from unmask.rl.likelihoods import Copies
    from unmask.rl.rollouts import Rollouts


@dataclass(frozen=True)
class Espo(Method):
    """Clipped gradient of exp((Ê_θ − Ê_old)/L) with leave-one-out advantages and a k2 penalty on Ê_θ − Ê_ref."""

    label: ClassVar = "ESPO"
    colour: ClassVar = "#990055"
    marker: ClassVar = "^"
    dash: ClassVar = "dash-dotted"
    citation: ClassVar = (
        "Jingyang Ou, Jiaqi Han, Minkai Xu, Shaoxuan Xu, Jianwen Xie, Stefano Ermon, Yi Wu, Chongxuan Li: "
        "arXiv 2512.03759 (ESPO)"
    )
    used_if: ClassVar = {
        "normalise": "ratio == 'sequence'",
        "divergence": "kl_penalty > 0",
        "micro_batch_rows": "levels == 'stratified'",
        "reference_sync": "kl_penalty > 0",
    }
    buffer_type: ClassVar = SequenceBuffer

    clip: NonNegative = 0.2  # ε, the ratio is clipped to 1 ± this
    kl_penalty: NonNegative = 0.001  # β, weight of the divergence from the reference
    divergence: Literal["k2", "k3"] = "k2"  # estimator of the divergence, of ELBOs and divided by L
    copies: EvenInt = 4  # K, masked copies of each response, in antithetic pairs; released code: num_mc pairs
    levels: Literal["stratified", "uniform"] = "stratified"  # mask levels: spread over rows, or drawn for each row
    ratio: Literal["sequence", "token"] = "sequence"  # one ratio per response, or one per token (an ablation)
    normalise: bool = True  # divide the exponent of the ratio by the response length; false is an ablation
    # Rows over which levels are spread, those of a micro-batch in the released code; 0: the group.
    micro_batch_rows: Whole = 0

    def passes(self, updates: int, steps: int) -> Passes:
        """Count the copies of each update, scored by old policy and reference beforehand."""
        policies = 2 if self.kl_penalty else 1
        k = self.copies
        return Passes(update=k, prepare=policies * updates * k, copies=k, scored=k)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> SequenceBuffer:
        """Draw the copies of each update, and compute old and reference scores on them and advantages."""
        advantage = rl.losses.leave_one_out_advantages(rollouts.reward, rollouts.group_size)
        copies = [self._draw(rollouts, seeds, update) for update in range(updates)]
        score = rl.sequence_ratio.token_scores
        return rl.sequence_ratio.prepare(policy, rollouts, copies, score, advantage, self.kl_penalty > 0)

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: SequenceBuffer, update: int, seeds: Seeds
    ) -> SequenceUpdate:
        """Return this update's copies and the scores on them."""
        return rl.sequence_ratio.at_update(buffer_data, update)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: SequenceBuffer, update_data: SequenceUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Average −min(ρA, clip(ρ)A) + β · ½ (Ê_θ − Ê_ref)²/L over the responses, ρ = exp((Ê_θ − Ê_old)/L)."""
        new = rl.sequence_ratio.token_scores(policy.model, rollouts, rl.sequence_ratio.copies_of(update_data))
        change = new - update_data.old
        if self.ratio == "sequence":
            change = change.sum(1, keepdim=True) / (rollouts.length if self.normalise else 1)
        gradient, clipped = rl.losses.clipped_loss(
            change, change.new_zeros(()), buffer_data.advantage[:, None], self.clip
        )
        rows = gradient.mean(1)
        metrics = {"clipped": clipped.float().mean(1), "log_ratio": (new - update_data.old).detach().sum(1)}

        if self.kl_penalty:
            estimate = {"k2": rl.losses.k2, "k3": rl.losses.k3}[self.divergence]
            rows = rows + self.kl_penalty * estimate(new.sum(1), update_data.reference.sum(1)) / rollouts.length
            metrics["kl"] = (buffer_data.old[:, 0] - buffer_data.reference[:, 0]).sum(1)
        return rows / rollouts.buffer_rows, metrics

    def _draw(self, rollouts: Rollouts, seeds: Seeds, update: int) -> Copies:
        streams = rollouts.streams(seeds, "copies", update)
        if self.levels == "uniform":
            return rl.likelihoods.draw_copies(self.copies, rollouts.length, "uniform", streams)
        together = self.micro_batch_rows or rollouts.group_size
        return rl.elbo_masks.draw_stratified(self.copies, rollouts.length, streams, together)
