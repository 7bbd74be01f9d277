"""DMPO: match the reward-tilted distribution p* ∝ p_ref · exp(r/α) by importance-weighted denoising cross-entropy.

Source: DMPO, arXiv 2510.08233v3. Responses o_i drawn from p_old get the self-normalised importance weights of p*,
w = softmax_i of ℓ_i = coeff · (r_i/α + log p_ref(o_i) − log p_old(o_i)), and the denoising loss of each is weighted by
them (WDCE). Most of G weights are near zero, so nothing pushes bad responses down: a baseline is taken off the weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unmask.config.kinds import NonNegative, Pairs, Positive, Share, Whole
from unmask.likelihood import Copies, denoising, draw_copies, elbo, trajectory
from unmask.methods import Method, Rows
from unmask.models.policy import Policy
from unmask.objectives import (
    binned,
    coefficient_for,
    effective_sample_size,
    group_advantages,
    group_softmax,
    wddo_loss,
)
from unmask.rollout import Rollouts
from unmask.seeding import Seeds

LOGGED = "logged."  # marks tensors [B] that are only averaged into the metrics


@dataclass(frozen=True)
class Dmpo(Method):
    """Distribution matching by WDCE or WDDO, with weight baselines."""

    alpha: NonNegative  # temperature of the target; 0 is ℓ = η · r, with no likelihoods at all
    eta: Positive  # η, used where alpha is 0
    coefficient: Share  # ηα, the proximal step: 1 goes to p* at once, less goes part of the way
    ess_target: Share  # effective sample size that ℓ of each group is shrunk to reach; 0 is off
    loss_kind: Literal["wdce", "wddo", "reward_only"]  # reward_only, an ablation: WDCE with r − mean(r) for the weights
    baseline: Literal["none", "group", "individual", "model"]  # what is taken off the weights of WDCE
    baseline_strength: NonNegative  # s: w_real = w − s · w_base
    wddo_beta: Positive  # β
    wddo_negative: NonNegative  # a
    likelihood: Literal["elbo", "trajectory"]  # of the weights; trajectory is exact for random_order rollouts
    masks: Literal["uniform", "bernoulli"]  # how copies are masked
    elbo_copies: Pairs  # K masked copies behind each log-probability, in antithetic pairs
    copies: Pairs  # R masked copies of each response in the loss, in antithetic pairs
    # Rows of a device in the released code, by which it scales the loss of WDCE; 0: a mean over all rows.
    micro_batch_rows: Whole

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """Weights and baselines of the buffer; for WDDO also the old ELBOs on each update's masks."""
        if self.loss_kind == "reward_only":
            advantage = group_advantages(rollouts.reward, rollouts.group_size)
            return {"weight": advantage, "base": torch.zeros_like(advantage)}
        fixed = {}
        if self.alpha > 0 or self.baseline == "model":
            fixed = self._log_likelihoods(policy, rollouts, seeds)
        fixed |= self._weights(rollouts, fixed)
        if self.loss_kind == "wddo":
            fixed |= self._old_on_masks(policy.model, rollouts, 2 * updates, seeds)
        return fixed

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """The masked copies of this update; the model baseline is the one weight that follows the current policy."""
        if self.loss_kind == "wddo":
            pair = slice(2 * update, 2 * update + 2)
            return {name: fixed[name][:, pair] for name in ("wddo_masked", "wddo_weight", "wddo_old")}
        base = fixed["base"]
        if self.loss_kind == "wdce" and self.baseline == "model":
            now = self._log_likelihood(policy.model, rollouts, fixed)
            base = group_softmax(now - fixed["log_old"], rollouts.group_size)
        copies = self._draw(rollouts, self.copies, seeds)
        return {
            "advantage": fixed["weight"] - self.baseline_strength * base,
            "masked": copies.masked,
            "copy_weight": copies.weight / rollouts.length,
        }

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """WDCE: w_real · (1/R) Σ_r (1/m_r) Σ_{d masked} −log π_θ(õ_r)_d. WDDO: `wddo_loss`. Means over the buffer.

        Released, WDCE is a sum over the rows of a micro-batch with weights that sum to 1 over a group, and then a mean
        over micro-batches: the gradient is micro_batch_rows / G times ours, and so smaller next to `gradient_clip`.
        """
        if self.loss_kind == "wddo":
            weight, rows = fixed["weight"], self._wddo(policy.model, rollouts, fixed, fresh)
        else:
            weight, copies = fresh["advantage"], Copies(fresh["masked"], fresh["copy_weight"])
            rows = -weight * denoising(policy.model, *rollouts.inputs, copies).mean(1)
        logged = {name.removeprefix(LOGGED): value for name, value in fixed.items() if name.startswith(LOGGED)}
        return rows / self._loss_rows(rollouts), logged | binned(weight)

    def _loss_rows(self, rollouts: Rollouts) -> int:
        """What the summed loss of the rows is divided by."""
        if self.micro_batch_rows == 0 or self.loss_kind == "wddo":
            return rollouts.buffer_rows
        return rollouts.group_size * math.ceil(rollouts.buffer_rows / self.micro_batch_rows)

    def losses(
        self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """WDCE is a mean over copies: `rows_per_forward` of them at a time are a term. WDDO needs all of a response."""
        if self.loss_kind == "wddo":
            yield from super().losses(policy, rollouts, fixed, fresh)
            return
        for some in rollouts.copies_at_once(self.copies):
            part = {key: fresh[key][:, some] for key in ("masked", "copy_weight")}
            rows, metrics = self.loss(policy, rollouts, fixed, fresh | part)
            share = (some.stop - some.start) / self.copies
            yield share * rows, metrics if some.start == 0 else {}  # the same for all copies of a row

    # --- weights ------------------------------------------------------------------------------------------------------

    def _weights(self, rollouts: Rollouts, likelihoods: Rows) -> Rows:
        """The weights w [B], G · softmax of ℓ over each group, and w_base [B]; the model baseline begins at 1."""
        size = rollouts.group_size
        tilted, reversed_ = self._tilts(rollouts.reward, likelihoods, size)
        weight = group_softmax(tilted, size)
        ones = torch.ones_like(weight)
        base = {"none": 0 * ones, "group": ones, "individual": group_softmax(reversed_, size), "model": ones}
        largest = weight.view(-1, size).amax(1).repeat_interleave(size)
        return {
            "weight": weight,
            "base": base[self.baseline],
            LOGGED + "effective_sample_size": effective_sample_size(weight, size),
            LOGGED + "largest_weight": largest / size,
        }

    def _tilts(self, reward: Tensor, likelihoods: Rows, group_size: int) -> tuple[Tensor, Tensor]:
        """ℓ and ℓ⁻ [B]: log weights, up to a constant, of the target and of the target with the reward reversed."""
        if self.alpha == 0:
            tilted, reversed_ = self.eta * reward, -self.eta * reward
        else:
            log_ratio = likelihoods["log_reference"] - likelihoods["log_old"]
            tilted = self.coefficient * (log_ratio + reward / self.alpha)
            reversed_ = self.coefficient * (log_ratio - reward / self.alpha)
        if self.ess_target == 0:
            return tilted, reversed_
        shrink = coefficient_for(tilted, group_size, self.ess_target)
        return shrink * tilted, shrink * reversed_

    # --- likelihoods --------------------------------------------------------------------------------------------------

    def _log_likelihoods(self, policy: Policy, rollouts: Rollouts, seeds: Seeds) -> Rows:
        """Log p_old and log p_ref of the responses [B] and the masks behind them, shared with the model baseline."""
        noise: Rows = {}
        if self.likelihood == "elbo":
            copies = self._draw(rollouts, self.elbo_copies, seeds.child("elbo"))
            noise = {"elbo_masked": copies.masked, "elbo_weight": copies.weight}
            old = self._log_likelihood(policy.model, rollouts, noise)
        else:
            old = rollouts.log_prob_t1.sum(1)
        with policy.reference():
            reference = self._log_likelihood(policy.model, rollouts, noise)
        return noise | {"log_old": old, "log_reference": reference, LOGGED + "kl": old - reference}

    def _log_likelihood(self, model: nn.Module, rollouts: Rollouts, noise: Rows) -> Tensor:
        """Log p_θ of the responses [B]: the ELBO on these masks, or of every drawn token in the order it was drawn."""
        if self.likelihood == "elbo":
            return self._elbo(model, rollouts, Copies(noise["elbo_masked"], noise["elbo_weight"]))
        return rollouts.map(lambda r: trajectory(model, *r.inputs, r.step, r.step < r.nfe[:, None]).sum(1))

    def _elbo(self, model: nn.Module, rollouts: Rollouts, copies: Copies) -> Tensor:
        def scored(part: Rollouts, masked: Tensor, weight: Tensor) -> Tensor:
            terms = [
                denoising(model, *part.inputs, Copies(masked[:, some], weight[:, some]))
                for some in part.copies_at_once(masked.shape[1])
            ]
            return torch.cat(terms, 1).mean(1)

        return rollouts.map(scored, copies.masked, copies.weight)

    def _draw(self, rollouts: Rollouts, count: int, seeds: Seeds) -> Copies:
        generator = seeds.generator("copies", device=rollouts.response.device)
        return draw_copies((len(rollouts), count, rollouts.length), self.masks, generator)

    # --- WDDO ---------------------------------------------------------------------------------------------------------

    def _old_on_masks(self, model: nn.Module, rollouts: Rollouts, sets: int, seeds: Seeds) -> Rows:
        """Mask sets [B, sets, R, L] and the old ELBO on each [B, sets]; an update uses two."""
        drawn = [self._draw(rollouts, self.copies, seeds.child("wddo", index)) for index in range(sets)]
        return {
            "wddo_masked": torch.stack([copies.masked for copies in drawn], 1),
            "wddo_weight": torch.stack([copies.weight for copies in drawn], 1),
            "wddo_old": torch.stack([self._elbo(model, rollouts, copies) for copies in drawn], 1),
        }

    def _wddo(self, model: nn.Module, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> Tensor:
        """Two estimates of Δ on independent mask sets, one for each term."""
        up, down = (
            elbo(model, *rollouts.inputs, Copies(fresh["wddo_masked"][:, i], fresh["wddo_weight"][:, i]))
            - fresh["wddo_old"][:, i]
            for i in (0, 1)
        )
        return wddo_loss(fixed["weight"], up, down, self.wddo_beta, self.wddo_negative)
