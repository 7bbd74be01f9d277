"""DMPO: match the reward-tilted distribution p* ∝ p_ref · exp(r/α) by importance-weighted denoising cross-entropy.

Source: DMPO, arXiv 2510.08233v3. Responses o_i sampled from p_old get self-normalised importance weights towards p*,
w = softmax_i of ℓ_i = coeff · (r_i/α + log p_ref(o_i) − log p_old(o_i)), which weight their denoising losses (WDCE).
Most of the G weights are near zero, so nothing pushes bad responses down; a baseline subtracted from the weights does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.config.schema.types import EvenInt, Fraction, NonNegative, Positive, Whole
from unmask.methods import Method, Passes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unmask.common.seeding import Seeds
    from unmask.config.specs import RunSpec
    from unmask.models.policy import Policy
    from unmask.rl.likelihoods import Copies
    from unmask.rl.rollouts import Rollouts

PHASES = 8  # passes in which `masks: confidence` reveals a response, as in DPRM


@dataclass(frozen=True)
class Likelihoods:
    """Estimates of the log-likelihoods of the responses by the policy that sampled them and by the reference."""

    log_old: Tensor  # [B]
    log_reference: Tensor  # [B]
    copies: rl.likelihoods.Copies | None = None  # masks of the ELBO; None for likelihoods along the recorded order


@dataclass(frozen=True)
class DmpoBuffer:
    """Weights of the responses and, as far as the settings need them, what they were computed from."""

    weight: Tensor  # [B] w = G · softmax(ℓ) over each group
    weight_base: Tensor  # [B] w_base before the first update
    effective_sample_size: Tensor | None = None  # [B] that of the row's group
    largest_weight: Tensor | None = None  # [B] that of the row's group
    likelihoods: Likelihoods | None = None
    wddo_copies: rl.likelihoods.Copies | None = None  # masked [B, sets, R, L], two sets per update
    wddo_old: Tensor | None = None  # [B, sets] old ELBO on each set
    mask_rank: Tensor | None = None  # [B, L] order in which the policy reveals the tokens, for `masks: confidence`


@dataclass(frozen=True)
class DmpoUpdate:
    """Weights and masked copies of an update."""

    weight_real: Tensor  # [B] w − s · w_base; w itself for WDDO
    copies: Copies  # masked [B, R, L]; two sets, [B, 2, R, L], for WDDO
    old_elbo: Tensor | None = None  # [B, 2] old ELBO on each set, for WDDO


@dataclass(frozen=True)
class Dmpo(Method):
    """Distribution matching by WDCE or WDDO, with weight baselines."""

    label: ClassVar = "DMPO"
    colour: ClassVar = "#1155BB"
    marker: ClassVar = "D"
    dash: ClassVar = "solid"
    citation: ClassVar = (
        "Yuchen Zhu, Wei Guo, Jaemoo Choi, Petr Molodyk, Bo Yuan, Molei Tao, Yongxin Chen: arXiv 2510.08233 (DMPO)"
    )
    recipes: ClassVar = {"dmpo_sft": ("DMPO from SFT", "#AA77FF", "p", "dash-dotted")}
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

    alpha: NonNegative = 0.04  # temperature of the target; 0 means ℓ = η · r, without likelihoods
    eta: Positive = 25.0  # step of ℓ = η · r, used if alpha is 0
    coefficient: Fraction = 1.0  # proximal step ηα: 1 targets p* itself, less a point on the way
    # Effective sample size, as a share of G, that ℓ of each group is shrunk to reach; 0 is off.
    ess_target: Fraction = 0.0
    # Objective; reward_only is an ablation, WDCE with weights r − mean(r).
    loss_kind: Literal["wdce", "wddo", "reward_only"] = "wdce"
    baseline: Literal["none", "group", "individual", "model"] = "group"  # subtracted from the weights of WDCE
    baseline_strength: NonNegative = 1.0  # s in w_real = w − s · w_base
    wddo_beta: Positive = 1.0  # scale of WDDO's log-ratios: β in log σ(β · Δ)
    wddo_negative: NonNegative = 1.0  # weight of WDDO's second term, log σ(−β · Δ)
    likelihood: Literal["elbo", "trajectory"] = "elbo"  # in the weights; trajectory is exact for random_order rollouts
    # Masking scheme of the copies. confidence: as bernoulli, but copies of the loss mask the least confident tokens.
    masks: Literal["uniform", "bernoulli", "confidence"] = "bernoulli"
    elbo_copies: EvenInt = 4  # K, masked copies per log-probability, in antithetic pairs
    copies: EvenInt = 4  # R, masked copies of each response in the loss, in antithetic pairs
    # Rows per device in the released code, which sets the scale of its WDCE loss; 0: a mean over all rows.
    micro_batch_rows: Whole = 0

    def passes(self, updates: int, steps: int) -> Passes:
        """Count old and reference log-probabilities, the current ones of the model baseline, and the loss copies."""
        copies = self.copies
        ordering = PHASES if self.masks == "confidence" else 0
        if self.loss_kind == "reward_only":
            return Passes(update=copies, prepare=ordering, copies=copies, apart=True)

        # A likelihood is an ELBO over masked copies or exact, a pass per denoising step.
        exact = self.likelihood == "trajectory"
        likelihood, scored = (steps, 1) if exact else (self.elbo_copies, self.elbo_copies)

        # The exact old log-probabilities were recorded while sampling: only the reference remains to be scored.
        prepare = ordering
        if self._needs_likelihoods:
            prepare += likelihood if exact else 2 * likelihood

        # WDDO has two terms, each on separate masks, and needs the old ELBO on both sets of each update.
        if self.loss_kind == "wddo":
            prepare += 2 * updates * copies
            return Passes(update=2 * copies, prepare=prepare, copies=copies, scored=max(copies, scored))

        refresh = likelihood if self.baseline == "model" else 0
        return Passes(update=copies, prepare=prepare, refresh=refresh, copies=copies, scored=scored, apart=True)

    def check(self, run: RunSpec) -> Iterator[tuple[str, str]]:
        """Refuse exact likelihoods of rollouts that were not drawn from plain forward passes, and ordered ELBOs."""
        if self.masks == "confidence" and self.loss_kind == "wddo":
            how = "confidence orders the masks of WDCE's loss, and those of WDDO are an ELBO's; choose bernoulli"
            yield "masks", how
        # A trajectory's likelihood is recomputed with plain forward passes. With a cache, guidance or forbidden tokens
        # the sampler drew from other distributions.
        bent = [key for key in ("cache", "guidance", "forbidden") if key in run.rollout_sampler.changed]
        exact = self.likelihood == "trajectory" and self.loss_kind != "reward_only" and self._needs_likelihoods
        if bent and exact:
            how = f"trajectory scores plain passes, and the sampler {run.training.sampler} has {' and '.join(bent)}"
            yield "likelihood", f"{how}; choose a sampler without, or elbo"

    @property
    def _needs_likelihoods(self) -> bool:
        """True if the weights or the model baseline use likelihoods; with alpha 0 the weights use rewards only."""
        return self.alpha > 0 or self.baseline == "model"

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> DmpoBuffer:
        """Compute weights and baselines of the buffer; for WDDO also the old ELBOs on each update's masks."""
        buffer_data = self._weighted(policy, rollouts, seeds)
        if self.masks == "confidence":
            return replace(buffer_data, mask_rank=rl.mask_orders.confidence_ranks(policy, rollouts, PHASES))
        if self.loss_kind == "wddo":
            copies, old = self._old_on_masks(policy, rollouts, 2 * updates, seeds)
            return replace(buffer_data, wddo_copies=copies, wddo_old=old)
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
            weight_base = rl.losses.group_softmax(now - old.log_old, rollouts.group_size)
        copies = self._draw(rollouts, self.copies, seeds)
        if self.masks == "confidence":
            copies = rl.mask_orders.in_order(copies, buffer_data.mask_rank)
        return DmpoUpdate(
            weight_real=buffer_data.weight - self.baseline_strength * weight_base,
            copies=replace(copies, weight=copies.weight / rollouts.length),
        )

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: DmpoBuffer, update_data: DmpoUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute WDCE, w_real · (1/R) Σ_r (1/m_r) Σ_{d masked} −log π_θ(õ_r)_d, or `wddo_loss`, as buffer means.

        The released WDCE sums over the rows of a micro-batch, with weights that sum to 1 over a group, and averages
        over micro-batches. Its gradient is micro_batch_rows / G times ours, hence smaller relative to `max_grad_norm`.
        """
        if self.loss_kind == "wddo":
            rows = self._wddo(policy.model, rollouts, update_data)
        else:
            score = rl.likelihoods.denoising(policy.model, *rollouts.inputs, update_data.copies).mean(1)
            rows = -update_data.weight_real * score
        metrics = self._metrics(buffer_data) | rl.losses.binned(update_data.weight_real)
        return rows / self._loss_rows(rollouts), metrics

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
        """Yield WDCE in parts of `micro_batch_size` copies, weighted by their share; WDDO needs all copies at once."""
        if self.loss_kind == "wddo":
            yield from super().losses(policy, rollouts, buffer_data, update_data)
            return
        for some in rollouts.copies_at_once(self.copies):
            part = replace(update_data, copies=update_data.copies.select(some))
            rows, metrics = self.loss(policy, rollouts, buffer_data, part)
            share = (some.stop - some.start) / self.copies
            yield share * rows, metrics if some.start == 0 else {}  # metrics are equal for all copies of a row

    # --- weights ------------------------------------------------------------------------------------------------------

    def _weighted(self, policy: Policy, rollouts: Rollouts, seeds: Seeds) -> DmpoBuffer:
        """Compute the weights of the responses, or their advantages for `reward_only`."""
        if self.loss_kind == "reward_only":
            advantage = rl.losses.group_advantages(rollouts.reward, rollouts.group_size)
            return DmpoBuffer(advantage, weight_base=advantage.new_zeros(advantage.shape))

        # Likelihoods take many forward passes, so they are computed only if the weights or the baseline use them.
        likelihoods = None
        if self._needs_likelihoods:
            likelihoods = self._likelihoods(policy, rollouts, seeds)
        return self._weights(rollouts, likelihoods)

    def _weights(self, rollouts: Rollouts, likelihoods: Likelihoods | None) -> DmpoBuffer:
        """Compute the weights w = G · softmax(ℓ) [B] over each group and w_base [B]; the model baseline starts at 1."""
        size = rollouts.group_size
        tilted, reversed_ = self._tilts(rollouts.reward, likelihoods, size)
        weight = rl.losses.group_softmax(tilted, size)
        individual = rl.losses.group_softmax(reversed_, size)
        ones = weight.new_ones(weight.shape)
        weight_base = {"none": 0 * ones, "group": ones, "individual": individual, "model": ones}
        largest = weight.view(-1, size).amax(1).repeat_interleave(size)
        return DmpoBuffer(
            weight=weight,
            weight_base=weight_base[self.baseline],
            effective_sample_size=rl.losses.effective_sample_size(weight, size),
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
        shrink = rl.losses.coefficient_for(tilted, group_size, self.ess_target)
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
        if copies is None:
            return rl.response_likelihoods.trajectory(policy, rollouts)
        return rl.response_likelihoods.elbo(policy, rollouts, copies)

    def _draw(self, rollouts: Rollouts, count: int, seeds: Seeds) -> Copies:
        # How many tokens a copy masks is random for every scheme, and so is which of them in a likelihood.
        scheme = "bernoulli" if self.masks == "confidence" else self.masks
        return rl.response_likelihoods.draw_copies(rollouts, count, scheme, seeds)

    # --- WDDO ---------------------------------------------------------------------------------------------------------

    def _old_on_masks(self, policy: Policy, rollouts: Rollouts, sets: int, seeds: Seeds) -> tuple[Copies, Tensor]:
        """Draw mask sets [B, sets, R, L] and compute the old ELBO on each [B, sets]; an update uses two sets."""
        drawn = [self._draw(rollouts, self.copies, seeds.child("wddo", index)) for index in range(sets)]
        return rl.response_likelihoods.elbo_of_sets(policy, rollouts, drawn)

    def _wddo(self, model: nn.Module, rollouts: Rollouts, update_data: DmpoUpdate) -> Tensor:
        """Compute `wddo_loss` [B] with an independent estimate of Δ, on its own mask set, for each of its two terms."""
        ratios = []
        for term in (0, 1):
            new = rl.likelihoods.elbo(model, *rollouts.inputs, update_data.copies.select(term))
            ratios.append(new - update_data.old_elbo[:, term])
        up, down = ratios
        return rl.losses.wddo_loss(update_data.weight_real, up, down, self.wddo_beta, self.wddo_negative)
