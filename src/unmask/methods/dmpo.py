"""DMPO: match the reward-tilted distribution p* ∝ p_ref · exp(r/α) by importance-weighted denoising cross-entropy.

Source: DMPO, arXiv 2510.08233v3. Responses o_i sampled from p_old get self-normalised importance weights towards p*,
w = softmax_i of ℓ_i = coeff · (r_i/α + log p_ref(o_i) − log p_old(o_i)), which weight their denoising losses (WDCE).
Most of the G weights are near zero, so nothing pushes bad responses down; a baseline subtracted from the weights does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from unmask.common.seeding import Seeds
from unmask.config.schema.types import EvenInt, Fraction, NonNegative, Positive, Whole
from unmask.methods import Method
from unmask.models.policy import Policy
from unmask.rl.likelihoods import Copies, denoising, draw_copies, elbo, trajectory
from unmask.rl.losses import binned, coefficient_for, effective_sample_size, group_advantages, group_softmax, wddo_loss
from unmask.rl.rollouts import Rollouts


@dataclass(frozen=True)
class Likelihoods:
    """Estimates of the log-likelihoods of the responses by the policy that sampled them and by the reference."""

    log_old: Tensor  # [B]
    log_reference: Tensor  # [B]
    copies: Copies | None = None  # masks of the ELBO; None for likelihoods along the recorded order


@dataclass(frozen=True)
class DmpoBuffer:
    """Weights of the responses and, as far as the settings need them, what they were computed from."""

    weight: Tensor  # [B] w = G · softmax(ℓ) over each group
    weight_base: Tensor  # [B] w_base before the first update
    effective_sample_size: Tensor | None = None  # [B] that of the row's group
    largest_weight: Tensor | None = None  # [B] that of the row's group
    likelihoods: Likelihoods | None = None
    wddo_copies: Copies | None = None  # masked [B, sets, R, L], two sets per update
    wddo_old: Tensor | None = None  # [B, sets] old ELBO on each set


@dataclass(frozen=True)
class DmpoUpdate:
    """Weights and masked copies of an update."""

    weight_real: Tensor  # [B] w − s · w_base; w itself for WDDO
    copies: Copies  # masked [B, R, L]; two sets, [B, 2, R, L], for WDDO
    old_elbo: Tensor | None = None  # [B, 2] old ELBO on each set, for WDDO


@dataclass(frozen=True)
class Dmpo(Method):
    """Distribution matching by WDCE or WDDO, with weight baselines."""

    # WDDO has no baseline. reward_only replaces w by advantages, so it needs neither likelihoods nor a reference.
    used_if: ClassVar = {
        "eta": "alpha == 0 and loss_kind != 'reward_only'",
        "coefficient": "alpha > 0 and loss_kind != 'reward_only'",
        "baseline_strength": "loss_kind == 'wdce' and baseline != 'none'",
        "wddo_beta": "loss_kind == 'wddo'",
        "wddo_negative": "loss_kind == 'wddo'",
        "elbo_copies": "likelihood == 'elbo' and loss_kind != 'reward_only' and "
        "(alpha > 0 or (loss_kind == 'wdce' and baseline == 'model'))",
        "reference_sync": "alpha > 0 and loss_kind != 'reward_only'",
    }
    buffer_type: ClassVar = DmpoBuffer

    alpha: NonNegative  # temperature of the target; 0 means ℓ = η · r, without likelihoods
    eta: Positive  # step of ℓ = η · r, used if alpha is 0
    coefficient: Fraction  # proximal step: 1 targets p* itself, less a point on the way
    ess_target: Fraction  # effective sample size, as a share of G, that ℓ of each group is shrunk to reach; 0 is off
    loss_kind: Literal["wdce", "wddo", "reward_only"]  # reward_only, an ablation: WDCE with weights r − mean(r)
    baseline: Literal["none", "group", "individual", "model"]  # subtracted from the weights of WDCE
    baseline_strength: NonNegative  # s in w_real = w − s · w_base
    wddo_beta: Positive  # scale of WDDO's log-ratios: β in log σ(β · Δ)
    wddo_negative: NonNegative  # weight of WDDO's second term, log σ(−β · Δ)
    likelihood: Literal["elbo", "trajectory"]  # in the weights; trajectory is exact for random_order rollouts
    masks: Literal["uniform", "bernoulli"]  # masking scheme of the copies
    elbo_copies: EvenInt  # masked copies per log-probability, in antithetic pairs
    copies: EvenInt  # masked copies of each response in the loss, in antithetic pairs
    # Rows per device in the released code, which sets the scale of its WDCE loss; 0: a mean over all rows.
    micro_batch_rows: Whole

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> DmpoBuffer:
        """Compute weights and baselines of the buffer; for WDDO also the old ELBOs on each update's masks."""
        if self.loss_kind == "reward_only":
            advantage = group_advantages(rollouts.reward, rollouts.group_size)
            return DmpoBuffer(advantage, torch.zeros_like(advantage))

        # Likelihoods take many forward passes, so they are computed only if the weights or the baseline use them.
        likelihoods = None
        if self.alpha > 0 or self.baseline == "model":
            likelihoods = self._likelihoods(policy, rollouts, seeds)
        buffer_data = self._weights(rollouts, likelihoods)
        if self.loss_kind == "wddo":
            copies, old = self._old_on_masks(policy, rollouts, 2 * updates, seeds)
            buffer_data = replace(buffer_data, wddo_copies=copies, wddo_old=old)
        return buffer_data

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: DmpoBuffer, update: int, seeds: Seeds
    ) -> DmpoUpdate:
        """Draw this update's masked copies; re-estimate the model baseline, which follows the current policy."""
        if self.loss_kind == "wddo":
            # Masks were drawn in `prepare`, because the old ELBO on them needs the old policy.
            pair = slice(2 * update, 2 * update + 2)
            return DmpoUpdate(buffer_data.weight, buffer_data.wddo_copies.select(pair), buffer_data.wddo_old[:, pair])
        # Scored on the masks of the old likelihoods, so the baseline is 1 as long as the policy has not moved.
        weight_base = buffer_data.weight_base
        if self.loss_kind == "wdce" and self.baseline == "model":
            old = buffer_data.likelihoods
            now = self._log_likelihood(policy, rollouts, old.copies)
            weight_base = group_softmax(now - old.log_old, rollouts.group_size)
        copies = self._draw(rollouts, self.copies, seeds)
        return DmpoUpdate(
            weight_real=buffer_data.weight - self.baseline_strength * weight_base,
            copies=Copies(copies.masked, copies.weight / rollouts.length),
        )

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: DmpoBuffer, update_data: DmpoUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute WDCE, w_real · (1/R) Σ_r (1/m_r) Σ_{d masked} −log π_θ(õ_r)_d, or `wddo_loss`, as buffer means.

        The released WDCE sums over the rows of a micro-batch, with weights that sum to 1 over a group, and averages
        over micro-batches. Its gradient is micro_batch_rows / G times ours, hence smaller relative to `gradient_clip`.
        """
        if self.loss_kind == "wddo":
            rows = self._wddo(policy.model, rollouts, update_data)
        else:
            rows = -update_data.weight_real * denoising(policy.model, *rollouts.inputs, update_data.copies).mean(1)
        return rows / self._loss_rows(rollouts), self._metrics(buffer_data) | binned(update_data.weight_real)

    def _metrics(self, buffer_data: DmpoBuffer) -> dict[str, Tensor]:
        """Return what a buffer knows of KL(old ‖ reference) and of its weights."""
        found = {}
        if buffer_data.likelihoods:
            found["kl"] = buffer_data.likelihoods.log_old - buffer_data.likelihoods.log_reference
        if buffer_data.effective_sample_size is not None:
            found["effective_sample_size"] = buffer_data.effective_sample_size
            found["largest_weight"] = buffer_data.largest_weight
        return found

    def _loss_rows(self, rollouts: Rollouts) -> int:
        """Return the divisor of the summed row losses: buffer size, or the released code's normaliser."""
        # Weights sum to G per group here and to 1 in the released code, hence the factor G in its normaliser.
        if self.micro_batch_rows == 0 or self.loss_kind == "wddo":
            return rollouts.buffer_rows
        return rollouts.group_size * math.ceil(rollouts.buffer_rows / self.micro_batch_rows)

    def losses(
        self, policy: Policy, rollouts: Rollouts, buffer_data: DmpoBuffer, update_data: DmpoUpdate
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield WDCE in parts of `rows_per_forward` copies, weighted by their share; WDDO needs all copies at once."""
        if self.loss_kind == "wddo":
            yield from super().losses(policy, rollouts, buffer_data, update_data)
            return
        for some in rollouts.copies_at_once(self.copies):
            part = replace(update_data, copies=update_data.copies.select(some))
            rows, metrics = self.loss(policy, rollouts, buffer_data, part)
            share = (some.stop - some.start) / self.copies
            yield share * rows, metrics if some.start == 0 else {}  # metrics are equal for all copies of a row

    # --- weights ------------------------------------------------------------------------------------------------------

    def _weights(self, rollouts: Rollouts, likelihoods: Likelihoods | None) -> DmpoBuffer:
        """Compute the weights w = G · softmax(ℓ) [B] over each group and w_base [B]; the model baseline starts at 1."""
        size = rollouts.group_size
        tilted, reversed_ = self._tilts(rollouts.reward, likelihoods, size)
        weight = group_softmax(tilted, size)
        ones = torch.ones_like(weight)
        individual = group_softmax(reversed_, size)
        weight_base = {"none": 0 * ones, "group": ones, "individual": individual, "model": ones}
        largest = weight.view(-1, size).amax(1).repeat_interleave(size)
        return DmpoBuffer(
            weight=weight,
            weight_base=weight_base[self.baseline],
            effective_sample_size=effective_sample_size(weight, size),
            largest_weight=largest / size,
            likelihoods=likelihoods,
        )

    def _tilts(self, reward: Tensor, likelihoods: Likelihoods | None, group_size: int) -> tuple[Tensor, Tensor]:
        """Compute ℓ and ℓ⁻ [B], unnormalised log weights of the target and of the target with the reward negated."""
        if self.alpha == 0:
            tilted, reversed_ = self.eta * reward, -self.eta * reward
        else:
            log_ratio = likelihoods.log_reference - likelihoods.log_old
            tilted = self.coefficient * (log_ratio + reward / self.alpha)
            reversed_ = self.coefficient * (log_ratio - reward / self.alpha)
        if self.ess_target == 0:
            return tilted, reversed_
        # The reversed target gets the coefficient of the weights, not a separate one.
        shrink = coefficient_for(tilted, group_size, self.ess_target)
        return shrink * tilted, shrink * reversed_

    # --- likelihoods --------------------------------------------------------------------------------------------------

    def _likelihoods(self, policy: Policy, rollouts: Rollouts, seeds: Seeds) -> Likelihoods:
        """Estimate log p_old and log p_ref [B], both on the same masks."""
        if self.likelihood == "elbo":
            copies = self._draw(rollouts, self.elbo_copies, seeds.child("elbo"))
            old = self._log_likelihood(policy, rollouts, copies)
        else:
            # The rollout recorded each token's probability given what was committed before: no forward pass is needed.
            copies, old = None, rollouts.log_prob_t1.sum(1)
        with policy.reference():
            reference = self._log_likelihood(policy, rollouts, copies)
        return Likelihoods(old, reference, copies)

    def _log_likelihood(self, policy: Policy, rollouts: Rollouts, copies: Copies | None) -> Tensor:
        """Estimate log p_θ of the responses [B], by the ELBO on these copies or exactly along the recorded order."""
        if copies:
            return self._elbo(policy, rollouts, copies)

        def scored(part: Rollouts) -> Tensor:
            # Tokens filled in after the end were not drawn; their step is NFE.
            drawn = part.unmask_step < part.nfe[:, None]
            return trajectory(policy.model, *part.inputs, part.unmask_step, drawn).sum(1)

        with policy.merged():
            return rollouts.map(scored)

    def _elbo(self, policy: Policy, rollouts: Rollouts, copies: Copies) -> Tensor:
        """Estimate the ELBO [B] without gradients; the adapter is merged, as it is constant for all these passes."""

        def scored(part: Rollouts, masked: Tensor, weight: Tensor) -> Tensor:
            copies = Copies(masked, weight)
            some = part.copies_at_once(masked.shape[1])
            return torch.cat([denoising(policy.model, *part.inputs, copies.select(few)) for few in some], 1).mean(1)

        with policy.merged():
            return rollouts.map(scored, copies.masked, copies.weight)

    def _draw(self, rollouts: Rollouts, count: int, seeds: Seeds) -> Copies:
        return draw_copies(count, rollouts.length, self.masks, rollouts.streams(seeds, "copies"))

    # --- WDDO ---------------------------------------------------------------------------------------------------------

    def _old_on_masks(self, policy: Policy, rollouts: Rollouts, sets: int, seeds: Seeds) -> tuple[Copies, Tensor]:
        """Draw mask sets [B, sets, R, L] and compute the old ELBO on each [B, sets]; an update uses two sets."""
        drawn = [self._draw(rollouts, self.copies, seeds.child("wddo", index)) for index in range(sets)]
        masked = torch.stack([copies.masked for copies in drawn], 1)
        weight = torch.stack([copies.weight for copies in drawn], 1)
        old = torch.stack([self._elbo(policy, rollouts, copies) for copies in drawn], 1)
        return Copies(masked, weight), old

    def _wddo(self, model: nn.Module, rollouts: Rollouts, update_data: DmpoUpdate) -> Tensor:
        """Compute `wddo_loss` [B] with an independent estimate of Δ, on its own mask set, for each of its two terms."""
        up, down = (
            elbo(model, *rollouts.inputs, update_data.copies.select(i)) - update_data.old_elbo[:, i] for i in (0, 1)
        )
        return wddo_loss(update_data.weight_real, up, down, self.wddo_beta, self.wddo_negative)
