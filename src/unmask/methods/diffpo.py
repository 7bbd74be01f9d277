"""DiFFPO: policy gradients through a tighter surrogate policy, with importance weights for the sampler's true policy.

Source: DiFFPO, arXiv 2510.02212. Three ingredients, each with its own switch: the two-stage surrogate (2-MF) in place
of the mean field; clamped importance weights between the recorded behaviour probabilities and the surrogate's; and a
sampler that is trained jointly, its threshold being one more action with its own ratio in the same clipped loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.common.errors import InputError
from unmask.config.schema.types import NonNegative, Positive
from unmask.methods import Method, Passes
from unmask.rl.buffer_data import NoData, RatioBuffer, RatioUpdate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unmask.common.random_streams import Streams
    from unmask.common.seeding import Seeds
    from unmask.config.specs import RunSpec
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts, RolloutSettings, Rows
    from unmask.tasks import Example, Task


@dataclass(frozen=True)
class DiffpoBuffer:
    """What the updates of a buffer share; `learn` decides which of them are there."""

    advantage: Tensor  # [B]
    ratios: RatioBuffer | None = None  # of tokens, if the model is trained
    old_density: Tensor | None = None  # [B] log-density of the chosen thresholds, if the sampler is trained


@dataclass(frozen=True)
class Diffpo(Method):
    """Clipped loss on the surrogate policy, weighted by min(C, π_sur,old / π_true,old)."""

    label: ClassVar = "DiFFPO"
    colour: ClassVar = "#FF3388"
    marker: ClassVar = "X"
    dash: ClassVar = "long-dashed"
    citation: ClassVar = "Hanyang Zhao, Dawen Liang, Wenpin Tang, David Yao, Nathan Kallus: arXiv 2510.02212 (DiFFPO)"
    used_if: ClassVar = {
        "kl_penalty": "learn != 'sampler'",
        "clamp": "importance_sampling and learn != 'sampler'",
        "sigma": "learn != 'model'",
        "speed_reward": "learn != 'model'",
        "learning_rate": "learn != 'sampler'",
        "weight_decay": "learn != 'sampler'",
        "sampler_learning_rate": "learn != 'model'",
        "reference_sync": "kl_penalty > 0 and learn != 'sampler'",
    }
    buffer_type: ClassVar = DiffpoBuffer

    clip: Positive = 0.5  # ε, the ratio is clipped to 1 ± this; our choice, not published
    kl_penalty: NonNegative = 0.0  # β, weight of the KL divergence to the reference; our choice, not published
    surrogate: Literal["mean_field", "two_stage"] = "two_stage"  # likelihood of the policy in the loss
    importance_sampling: bool = True  # weigh each token by min(C, π_sur,old / π_true,old)
    clamp: Positive = 2.0  # C, largest importance weight; our choice, not published
    # Trained part: sampler and joint also train the threshold of an adaptive sampler in rollouts.
    learn: Literal["model", "sampler", "joint"] = "model"
    sigma: Positive = 0.5  # noise on the threshold's logit while it is trained; our choice, not published
    speed_reward: NonNegative = 0.5  # λ of the bonus λ(1 − NFE/L) on correct responses; our choice, not published

    def passes(self, updates: int, steps: int) -> Passes:
        """Count the scoring of old and reference policy, and the passes of the surrogate in an update."""
        # The threshold head learns from states recorded while sampling: no pass through the model.
        if self.learn == "sampler":
            return Passes(update=0)
        # The mean field has no random masks, so one scoring serves all updates.
        if self.surrogate == "mean_field":
            return Passes(update=1, prepare=2)
        return Passes(update=2, prepare=2 * 2 * updates)

    def check(self, run: RunSpec) -> Iterator[tuple[str, str]]:
        """Refuse to train the threshold of a sampler that has none."""
        if self.learn != "model" and run.rollout_sampler.rule != "adaptive":
            how = f"{self.learn} trains a threshold, and the sampler {run.training.sampler} has none"
            yield "learn", f"{how}; choose a sampler with rule: adaptive, or learn: model"

    def begin(self, policy: Policy) -> None:
        """Freeze the model or the threshold head, as `learn` says. Raises InputError if a needed head is missing."""
        if self.learn == "sampler":
            policy.model.requires_grad_(False)
        if self.learn == "model":
            super().begin(policy)
        elif policy.head is None:
            raise InputError(f"learn: {self.learn} needs a sampler with `rule: adaptive`; set methods.diffpo.sampler")

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """Sample rollouts, with noise on the thresholds if these are trained."""
        # Noise is exploration; a fixed threshold head decodes with its mean, as in evaluation.
        sigma = 0.0 if self.learn == "model" else self.sigma
        return super().collect(policy, task, examples, replace(settings, sigma=sigma), seeds)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> DiffpoBuffer:
        """Compute advantages, old and reference log-probabilities at each update's stage τ, and threshold densities."""
        # Incorrect responses earn no speed bonus, or committing everything at once would pay.
        reward = rollouts.reward
        if self.learn != "model":
            reward = reward + self.speed_reward * rollouts.correct * (1 - rollouts.nfe / rollouts.length)
        advantage = rl.losses.group_advantages(reward, rollouts.group_size)
        ratios, old_density = None, None
        if self.learn != "sampler":
            ratios = rl.clipped_ratio.prepare_ratios(
                policy, rollouts, updates, seeds, self._draw, self._score, advantage
            )
        if self.learn != "model":
            old_density = self._density(policy, rollouts).detach()
        return DiffpoBuffer(advantage, ratios, old_density)

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: DiffpoBuffer, update: int, seeds: Seeds
    ) -> RatioUpdate | NoData:
        """Return this update's stage and the log-probabilities at it."""
        if buffer_data.ratios is None:
            return NoData()
        return rl.clipped_ratio.at_update(buffer_data.ratios, update)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: DiffpoBuffer, update_data: RatioUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the clipped losses of tokens and of thresholds, whichever are trained."""
        # With a frozen model the token losses would have no gradient.
        rows = buffer_data.advantage.new_zeros(())
        metrics: dict[str, Tensor] = {}
        if buffer_data.ratios:
            rows, metrics = self._token_loss(policy, rollouts, buffer_data.ratios, update_data)
        if buffer_data.old_density is None:
            return rows, metrics

        # All thresholds of a response are one action with one ratio; their loss is a mean over responses, not tokens.
        new = self._density(policy, rollouts)
        threshold, clipped = rl.losses.clipped_loss(new, buffer_data.old_density, buffer_data.advantage, self.clip)
        gamma = policy.head.gamma(rollouts.gamma_logit).detach()
        metrics["gamma"] = gamma.nanmean(1)
        metrics["gamma_squared"] = gamma.square().nanmean(1)
        metrics["threshold_clipped"] = clipped.float()
        return rows + threshold / rollouts.buffer_rows, metrics

    def _token_loss(
        self, policy: Policy, rollouts: Rollouts, ratios: RatioBuffer, update_data: RatioUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the clipped token losses with importance weights; log the share of weights clamped at C."""
        new = self._score(policy.model, rollouts, update_data.masks)
        if not self.importance_sampling:
            return rl.clipped_ratio.ratio_loss(new, rollouts, ratios, update_data, self.clip, self.kl_penalty)

        # Built from old log-probabilities only, so no gradient flows through the weight.
        weight = rl.losses.clamped_importance(update_data.old, rollouts.log_prob_t1, self.clamp)
        rows, metrics = rl.clipped_ratio.ratio_loss(
            new, rollouts, ratios, update_data, self.clip, self.kl_penalty, weight
        )
        mask = rollouts.loss_mask
        tokens = mask.sum(1)
        metrics["importance_mean"] = (weight * mask).sum(1) / tokens
        metrics["importance_squared"] = (weight.square() * mask).sum(1) / tokens
        metrics["clamped"] = ((weight >= self.clamp) * mask).sum(1) / tokens
        return rows, metrics

    def _density(self, policy: Policy, rollouts: Rollouts) -> Tensor:
        """Compute the log-density [B] of the recorded thresholds given the states they were chosen from."""
        mean = policy.head(rollouts.gamma_input)
        return rl.losses.gaussian_log_prob(rollouts.gamma_logit, mean, self.sigma)

    def _draw(self, rollouts: Rollouts, streams: Streams) -> Rows:
        # The mean field needs no random numbers: its prompt is never masked here.
        if self.surrogate == "mean_field":
            return {}
        return {"tau": rl.likelihoods.draw_stage(rollouts.nfe, streams)}

    def _score(self, model: nn.Module, rollouts: Rollouts, masks: Rows) -> Tensor:
        if self.surrogate == "mean_field":
            return rl.likelihoods.mean_field(model, *rollouts.inputs)
        return rl.likelihoods.two_stage(model, *rollouts.inputs, rollouts.unmask_step, masks["tau"])
