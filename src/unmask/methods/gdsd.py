"""GDSD: regression of the log-ratio of current and old policy on the advantage.

Source: GDSD, arXiv 2605.29398; the `released` settings as in gdsd/trainers/gdsd_trainer_batchll.py, lines 191-200, with
the recipe of scripts/run_gdsd_llada_gsm8k.sh (GaryBall/GDSD at 3fb6780). The optimum of reward maximisation with a
penalty on KL(θ ‖ old) has log π_θ − log π_old = A/penalty + constant, which the squared error fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.config.schema.types import EvenInt, Fraction, NonNegative, Positive
from unmask.methods import Method, Passes
from unmask.rl.buffer_data import SequenceBuffer, SequenceUpdate

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.models.policy import Policy
    from unmask.rl.likelihoods import Copies
    from unmask.rl.rollouts import Rollouts


@dataclass(frozen=True)
class Gdsd(Method):
    """Squared error of (Ê_θ − Ê_old)/L against ψA, with leave-one-out advantages and a k2 penalty."""

    label: ClassVar = "GDSD"
    colour: ClassVar = "#442200"
    marker: ClassVar = "p"
    dash: ClassVar = "dotted"
    citation: ClassVar = (
        "Xiaohang Tang, Keyue Jiang, Che Liu, Qifang Zhao, Xiaoxiao Xu, Sangwoong Yoon, Ilija Bogunovic: "
        "arXiv 2605.29398 (GDSD)"
    )
    recipes: ClassVar = {"gdsd_released": ("GDSD as released", "#446600", "v", "dotted")}
    used_if: ClassVar = {"reference_sync": "kl_penalty > 0"}
    buffer_type: ClassVar = SequenceBuffer

    psi: Positive = 0.01  # ψ, log-ratio per token and unit of advantage that is fitted; our choice
    clamp: Fraction = 0.0  # ε, log-ratios are clamped to log(1 ± this) before the division by L; 0: no clamp
    kl_penalty: NonNegative = 0.001  # β, weight of the k2 divergence from the reference, divided by L
    copies: EvenInt = 4  # K, masked copies of each response, in antithetic pairs; released code: num_mc pairs
    fit: Literal["response", "pair"] = "response"  # what has an error: the mean over pairs, or each (released code)
    weighted: bool = True  # tokens of a copy of m masked ones weigh (L + 1)/m; false: 1, as in the code's plain variant

    def passes(self, updates: int, steps: int) -> Passes:
        """Count the copies of each update, scored by old policy and, with a penalty, reference beforehand."""
        policies = 2 if self.kl_penalty else 1
        k = self.copies
        return Passes(update=k, prepare=policies * updates * k, copies=k, scored=k)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> SequenceBuffer:
        """Draw the copies of each update, and compute old and reference scores on them and advantages."""
        advantage = rl.losses.leave_one_out_advantages(rollouts.reward, rollouts.group_size)
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
        """Average (Δ/L − ψA)² + β · ½ (Ê_θ − Ê_ref)²/L over the responses, Δ = Ê_θ − Ê_old."""
        new = rl.sequence_ratio.copy_scores(policy.model, rollouts, rl.sequence_ratio.copies_of(update_data))
        log_ratio = self._fitted(new) - self._fitted(update_data.old)
        target = self.psi * buffer_data.advantage
        rows, clamped = rl.losses.regression(log_ratio, rollouts.length, target, self.clamp)
        metrics = {"log_ratio": log_ratio.detach().mean(1), "clamped": clamped.float().mean(1)}
        if self.kl_penalty:
            divergence = rl.losses.k2(self._fitted(new), self._fitted(update_data.reference)).mean(1)
            rows = rows + self.kl_penalty * divergence / rollouts.length
            metrics["kl"] = (buffer_data.old[:, 0] - buffer_data.reference[:, 0]).mean(1)
        return rows / rollouts.buffer_rows, metrics

    def _fitted(self, scores: Tensor) -> Tensor:
        """Average the scores of copies [b, K] over each pair [b, K/2], or over all of them [b, 1]."""
        size = 2 if self.fit == "pair" else self.copies
        return scores.unflatten(1, (-1, size)).mean(2)

    def _draw(self, rollouts: Rollouts, seeds: Seeds, update: int) -> Copies:
        streams = rollouts.streams(seeds, "copies", update)
        copies = rl.elbo_masks.draw_stratified(self.copies, rollouts.length, streams, rollouts.group_size)
        return copies if self.weighted else rl.elbo_masks.unweighted(copies)
