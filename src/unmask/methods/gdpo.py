"""GDPO: a clipped ratio of ELBOs whose integral over the mask level is a Gauss–Legendre quadrature.

Source: GDPO, arXiv 2510.08554. Most of the ELBO's variance is in the level t, so that a few fixed levels with one mask
each take the place of random ones. Settings that the text leaves open are those of the implementation in NeMo RL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.config.schema.types import Count, NonNegative, Positive
from unmask.methods import Method, Passes
from unmask.rl.buffer_data import SequenceBuffer, SequenceUpdate

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.models.policy import Policy
    from unmask.rl.likelihoods import Copies
    from unmask.rl.rollouts import Rollouts


@dataclass(frozen=True)
class Gdpo(Method):
    """Clipped gradient of exp((Ê_θ − Ê_old)/L) with group advantages, Ê by quadrature; no reference by default."""

    label: ClassVar = "GDPO"
    colour: ClassVar = "#009988"
    marker: ClassVar = "P"
    dash: ClassVar = "sparsely dotted"
    citation: ClassVar = (
        "Kevin Rojas, Jiahe Lin, Kashif Rasul, Anderson Schneider, Yuriy Nevmyvaka, Molei Tao, Wei Deng: "
        "arXiv 2510.08554 (GDPO)"
    )
    used_if: ClassVar = {"reference_sync": "kl_penalty > 0"}
    buffer_type: ClassVar = SequenceBuffer

    clip: Positive = 0.5  # ε, the ratio is clipped to 1 ± this
    kl_penalty: NonNegative = 0.0  # β, weight of the k2 divergence from the reference
    nodes: Count = 3  # N, levels of the quadrature, with one masked copy each
    levels: Literal["quadrature", "uniform"] = "quadrature"  # of the copies; N uniform random ones are an ablation

    def passes(self, updates: int, steps: int) -> Passes:
        """Count the copies of each update, scored by old policy and, with a penalty, reference beforehand."""
        policies = 2 if self.kl_penalty else 1
        return Passes(update=self.nodes, prepare=policies * updates * self.nodes, copies=self.nodes, scored=self.nodes)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> SequenceBuffer:
        """Draw the copies of each update, and compute old and reference scores on them and advantages."""
        advantage = rl.losses.group_advantages(rollouts.reward, rollouts.group_size)
        copies = [self._draw(rollouts, seeds, update) for update in range(updates)]
        score = rl.sequence_ratio.copy_scores
        return rl.sequence_ratio.prepare(policy, rollouts, copies, score, advantage, self.kl_penalty > 0)

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: SequenceBuffer, update: int, seeds: Seeds
    ) -> SequenceUpdate:
        """Return this update's copies and the scores on them."""
        return rl.sequence_ratio.at_update(buffer_data, update)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: SequenceBuffer, update_data: SequenceUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Average (1/L) [−min(ρA, clip(ρ)A) + β · ½ (Ê_θ − Ê_ref)²], ρ = exp((Ê_θ − Ê_old)/L), over the responses."""
        scores = rl.sequence_ratio.copy_scores(policy.model, rollouts, rl.sequence_ratio.copies_of(update_data))
        new, old = scores.mean(1), update_data.old.mean(1)
        length = rollouts.length
        rows, clipped = rl.losses.clipped_loss(new / length, old / length, buffer_data.advantage, self.clip)
        metrics = {"clipped": clipped.float(), "log_ratio": (new - old).detach()}
        if self.kl_penalty:
            rows = rows + self.kl_penalty * rl.losses.k2(new, update_data.reference.mean(1))
            metrics["kl"] = (buffer_data.old[:, 0] - buffer_data.reference[:, 0]).mean(1)
        return rows / length / rollouts.buffer_rows, metrics

    def _draw(self, rollouts: Rollouts, seeds: Seeds, update: int) -> Copies:
        streams = rollouts.streams(seeds, "copies", update)
        if self.levels == "uniform":
            return rl.likelihoods.draw_copies(self.nodes, rollouts.length, "uniform", streams, antithetic=False)
        return rl.elbo_masks.draw_quadrature(self.nodes, rollouts.length, streams)
