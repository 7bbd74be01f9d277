"""DMPO: match the reward-tilted distribution p* ∝ p_ref · exp(r/α) by importance-weighted denoising cross-entropy.

Source: DMPO, arXiv 2510.08233v3. Responses o_i drawn from p_old get the self-normalised importance weights of p*,
w = softmax_i of ℓ_i = coeff · (r_i/α + log p_ref(o_i) − log p_old(o_i)), and the denoising loss of each is weighted by
them (WDCE). Most of G weights are near zero, so nothing pushes bad responses down: a baseline is taken off the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unmask.likelihood import Copies, denoising, draw_copies, elbo, trajectory
from unmask.methods import Method, Rows
from unmask.models.policy import Policy
from unmask.objectives import coefficient_for, effective_sample_size, group_advantages, group_softmax, wddo_loss
from unmask.rollout import Rollouts
from unmask.seeding import Seeds
from unmask.settings import Count, NonNegative, Positive, Share, Whole


@dataclass(frozen=True)
class Dmpo(Method):
    """Distribution matching by WDCE or WDDO, with weight baselines."""

    alpha: NonNegative  # temperature of the target; 0 is ℓ = η · r, with no likelihoods at all
    eta: Positive  # η, used where alpha is 0
    coefficient: Share  # ηα, the proximal step: 1 goes to p* at once, less goes part of the way
    ess_target: Share  # effective sample size that the coefficient of each group is lowered to reach; 0 is off
    baseline: Literal["none", "group", "individual", "model"]  # what is taken off the weights
    baseline_strength: NonNegative  # s: w_real = w − s · w_base
    reward_only: bool  # ablation: w_real = r − mean(r), distribution matching removed
    loss_kind: Literal["wdce", "wddo"]
    wddo_beta: Positive  # β
    wddo_negative: NonNegative  # a
    likelihood: Literal["elbo", "trajectory"]  # of the weights; trajectory is exact for random_order rollouts
    masks: Literal["uniform", "bernoulli"]  # how copies are masked
    elbo_copies: Count  # K masked copies behind each log-probability
    copies: Count  # R masked copies of each response in the loss, in antithetic pairs
    resync_every: Whole  # buffers after which the reference becomes the current policy; 0 is never

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """Importance weights, baselines that stay fixed, and for WDDO the old ELBOs on each update's masks."""
        if self.resync_every and seeds.root[-1] and seeds.root[-1] % self.resync_every == 0:
            policy.set_reference()
        old, reference = self._log_likelihoods(policy, rollouts, seeds)
        weight, reversed_weight = self._weights(rollouts, reference - old)
        fixed = {
            "weight": weight,
            "advantage": self._advantage(rollouts, weight, reversed_weight),
            "log_old": old,
            "kl": old - reference,
            "effective_sample_size": effective_sample_size(weight, rollouts.group_size),
        }
        if self.loss_kind == "wddo":
            sets = [self._draw(rollouts, seeds.child("wddo", update)) for update in range(2 * updates)]
            scores = [self._elbo(policy.model, rollouts, copies) for copies in sets]
            fixed["old_on_masks"] = torch.stack(scores, 1)
            fixed["wddo_masked"] = torch.stack([copies.masked for copies in sets], 1)
            fixed["wddo_weight"] = torch.stack([copies.weight for copies in sets], 1)
        return fixed

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """New masked copies at every update; the model baseline is the one weight that follows the current policy."""
        if self.loss_kind == "wddo":
            pair = slice(2 * update, 2 * update + 2)
            return {name: fixed[name][:, pair] for name in ("old_on_masks", "wddo_masked", "wddo_weight")}
        copies = self._draw(rollouts, seeds)
        fresh = {"masked": copies.masked, "copy_weight": copies.weight / rollouts.length}
        if self.baseline == "model" and not self.reward_only:
            now = self._elbo(policy.model, rollouts, self._draw(rollouts, seeds.child("baseline")))
            base = group_softmax(now - fixed["log_old"], rollouts.group_size)
            fresh["advantage"] = fixed["weight"] - self.baseline_strength * base
        return fresh

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """WDCE: w_real · (1/R) Σ_r (1/m_r) Σ_{d masked} −log π_θ(õ)_d. WDDO: see objectives. Means over the buffer."""
        if self.loss_kind == "wddo":
            rows = self._wddo(policy.model, rollouts, fixed, fresh)
        else:
            copies = Copies(fresh["masked"], fresh["copy_weight"])
            advantage = fresh.get("advantage", fixed["advantage"])
            rows = -advantage * denoising(policy.model, *rollouts.inputs, copies).mean(1)
        return rows / rollouts.buffer_rows, {
            "kl": fixed["kl"],
            "effective_sample_size": fixed["effective_sample_size"],
            "weight_max": fixed["weight"],
        }

    def _wddo(self, model: nn.Module, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> Tensor:
        """Two estimates of Δ on independent mask sets, one for each term."""
        up, down = (
            elbo(model, *rollouts.inputs, Copies(fresh["wddo_masked"][:, i], fresh["wddo_weight"][:, i]))
            - fresh["old_on_masks"][:, i]
            for i in (0, 1)
        )
        return wddo_loss(fixed["weight"], up, down, self.wddo_beta, self.wddo_negative)

    def _log_likelihoods(self, policy: Policy, rollouts: Rollouts, seeds: Seeds) -> tuple[Tensor, Tensor]:
        """Log p_old and log p_ref of the responses [B]: exact along the sampler's order, or ELBOs on common masks."""
        if self.likelihood == "trajectory":
            old = (rollouts.log_prob_t1 * rollouts.counted).sum(1)
            with policy.reference():
                return old, rollouts.map(lambda r: trajectory(policy.model, *r.inputs, r.step, r.counted).sum(1))
        copies = self._draw(rollouts, seeds.child("elbo"), self.elbo_copies)
        old = self._elbo(policy.model, rollouts, copies)
        with policy.reference():
            return old, self._elbo(policy.model, rollouts, copies)

    def _weights(self, rollouts: Rollouts, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """W [B], G times the softmax of ℓ over each group, and the weight of the reversed reward, of ℓ⁻."""
        size, reward = rollouts.group_size, rollouts.reward
        if self.alpha == 0:
            return group_softmax(self.eta * reward, size), group_softmax(-self.eta * reward, size)
        tilted = self.coefficient * (reward / self.alpha + log_ratio)
        reversed_ = self.coefficient * (log_ratio - reward / self.alpha)
        if self.ess_target:
            lowered = coefficient_for(tilted, size, self.ess_target)
            tilted, reversed_ = lowered * tilted, lowered * reversed_
        return group_softmax(tilted, size), group_softmax(reversed_, size)

    def _advantage(self, rollouts: Rollouts, weight: Tensor, reversed_weight: Tensor) -> Tensor:
        """w_real = w − s · w_base; the model baseline is 1 at the first update and follows in `refresh`."""
        if self.reward_only:
            return group_advantages(rollouts.reward, rollouts.group_size)
        ones = torch.ones_like(weight)
        base = {"none": 0 * ones, "group": ones, "individual": reversed_weight, "model": ones}[self.baseline]
        return weight - self.baseline_strength * base

    def _draw(self, rollouts: Rollouts, seeds: Seeds, count: int | None = None) -> Copies:
        generator = seeds.generator("copies", device=rollouts.response.device)
        return draw_copies((len(rollouts), count or self.copies, rollouts.length), self.masks, generator)

    def _elbo(self, model: nn.Module, rollouts: Rollouts, copies: Copies) -> Tensor:
        return rollouts.map(lambda r, m, w: elbo(model, *r.inputs, Copies(m, w)), copies.masked, copies.weight)
