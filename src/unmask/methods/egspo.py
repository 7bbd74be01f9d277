"""EGSPO and its relatives: clipped policy gradients on states of the sampler's own trajectory.

Sources: EGSPO and EGSPO-SA, arXiv 2603.12554, and their code (egspo_trainer.py of vishnutez/egspo-dllm-rl at a7d618b),
with `surrogate: steps`: the K steps with the highest entropy, each with one ratio. With `surrogate: merge`, all steps
in N segments with a ratio for each token, as recipes: d2-StepMerge (arXiv 2509.21474), cj-GRPO (2509.23924, code
yjyddq/EOSER-ASS-RL at 5affb4e) and TraceRL (2509.06949, code Gen-Verse/dLLM-RL at 10b4fd1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from unmask import rl
from unmask.config.schema.types import NonNegative, Positive, Whole
from unmask.methods import Method, Passes
from unmask.rl.buffer_data import RatioBuffer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unmask.common.random_streams import Streams
    from unmask.common.seeding import Seeds
    from unmask.config.specs import RunSpec
    from unmask.models.policy import Policy
    from unmask.rl.rollouts import Rollouts, RolloutSettings, Rows
    from unmask.rl.trajectories import Spans
    from unmask.tasks import Example, Task


@dataclass(frozen=True)
class EgspoBuffer:
    """What the updates of a buffer share."""

    advantage: Tensor  # [B, K] of each span
    ratios: RatioBuffer  # its masks are `first` and `end` of the spans; old and reference are 0 outside of them


@dataclass(frozen=True)
class EgspoUpdate:
    """Spans of one update."""

    spans: Spans  # [B, n]
    advantage: Tensor  # [B, n]
    weight: Tensor  # [B, n] of each of a span's terms in the loss
    terms: Tensor  # [B] terms of the response, at least 1
    old: Tensor  # [B, L] log-probability of each token to the policy that sampled it
    reference: Tensor  # [B, L] to the policy of the KL penalty


@dataclass(frozen=True)
class Egspo(Method):
    """Clipped policy gradient on chosen steps, or on merged segments, of the trajectory of the rollouts."""

    label: ClassVar = "EGSPO"
    colour: ClassVar = "#990055"
    marker: ClassVar = "^"
    dash: ClassVar = "solid"
    citation: ClassVar = (
        "Vishnu Teja Kunde, Fatemeh Doudi, Mahdi Farahbakhsh, Dileep Kalathil, Krishna Narayanan, "
        "Jean-Francois Chamberland: arXiv 2603.12554 (EGSPO)"
    )
    recipes: ClassVar = {
        "egspo_sa": ("EGSPO-SA", "#FF3388", "v", "sparsely dotted"),
        "d2": ("d2-StepMerge", "#446600", "P", "dash-dotted"),
        "cj_grpo": ("cj-GRPO", "#009988", "X", "dotted"),
        "trace_rl": ("TraceRL", "#AA77FF", "h", "dash-dot-dotted"),
    }
    used_if: ClassVar = {
        "choice": "surrogate == 'steps'",
        "stepwise": "surrogate == 'steps'",
        "cut": "surrogate == 'merge'",
        "average": "surrogate == 'merge'",
        "normalise_advantage": "surrogate == 'merge'",
        "kl_to": "kl_penalty > 0",
        "reference_sync": "kl_penalty > 0 and kl_to == 'reference'",
    }
    buffer_type: ClassVar = EgspoBuffer

    surrogate: Literal["steps", "merge"] = "steps"  # score single steps, or all of them merged into segments
    states: Whole = 8  # K steps or N segments, a forward pass each; 0: one for every step
    states_per_update: Whole = 2  # consecutive ones that an update uses, in turn; 0: all
    choice: Literal["entropy", "uniform", "random"] = "entropy"  # which steps, see rl/trajectories.py
    cut: Literal["equal", "random"] = "equal"  # segments of equal length, or uniformly random ones in each update
    stepwise: NonNegative = 0.0  # λ, share of the reward beyond that of a greedy completion at the step
    clip: Positive = 0.2  # ε, the ratio is at least 1 − this
    clip_above: Positive = 0.5  # and at most 1 + this
    kl_penalty: NonNegative = 0.04  # β, weight of the KL divergence
    # Policy of that divergence: the reference, or the sampler of the buffer, as in TraceRL.
    kl_to: Literal["reference", "sampler"] = "reference"
    average: Literal["states", "tokens"] = "tokens"  # equal weight of segments, or of tokens
    normalise_advantage: bool = False  # divide it by the deviation of the group

    def passes(self, updates: int, steps: int) -> Passes:
        """Count the scoring of old and reference policy on the spans, and the greedy completions.

        Single steps have recorded old probabilities, and the same spans in each update.
        """
        states = self.states or steps
        merges = self.surrogate == "merge"
        scored = 2 if merges else 1 + (self.stepwise > 0)
        times = updates if merges and self.cut == "random" else 1
        count = self.states_per_update or states
        return Passes(update=count, prepare=scored * times * states, copies=count, apart=True)

    def check(self, run: RunSpec) -> Iterator[tuple[str, str]]:
        """Refuse shares of the states that are not equal, and more steps than there can be."""
        if self.states_per_update and (self.states % self.states_per_update or not self.states):
            how = f"{self.states_per_update} states in an update do not divide states: {self.states}"
            yield "states_per_update", f"{how}; set a divisor, or 0 for all of them"
        if self.surrogate == "steps" and self.states > run.training.generation_length:
            how = f"{self.states} steps exceed generation_length: {run.training.generation_length}"
            yield "states", f"{how}; reduce them, or set 0 for all of them"

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """Sample rollouts; with `stepwise`, also reward a greedy completion at each of the chosen steps."""
        rollouts = super().collect(policy, task, examples, settings, seeds)
        if self.surrogate == "merge" or self.stepwise == 0:
            return rollouts
        steps = self._steps(rollouts, seeds)
        rewards = rl.completion_rewards.completion_rewards(policy, task, examples, rollouts, steps, settings)
        return replace(rollouts, completion_reward=rewards)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> EgspoBuffer:
        """Compute advantages, and old and reference log-probabilities on the spans of each update.

        Old probabilities of single steps are the recorded ones; those of segments are scored, as the surrogate is.
        """
        if self.surrogate == "merge":
            draw, old = self._segments, None
            advantage = self._advantage(rollouts)
        else:
            steps = self._steps(rollouts, seeds)
            draw, old = (lambda *_: vars(steps)), rollouts.log_prob_t1 * steps.scored(rollouts.unmask_step).any(1)
            advantage = self._step_advantages(rollouts, steps)
        ratios = rl.clipped_ratio.prepare_ratios(
            policy, rollouts, updates, seeds, draw, _score, rollouts.reward, old=old
        )
        return EgspoBuffer(advantage, ratios)

    def refresh(
        self, policy: Policy, rollouts: Rollouts, buffer_data: EgspoBuffer, update: int, seeds: Seeds
    ) -> EgspoUpdate:
        """Select the spans of this update, and weigh their terms."""
        ratios = rl.clipped_ratio.at_update(buffer_data.ratios, update)
        states = buffer_data.advantage.shape[1]
        count = self.states_per_update or states
        first = update * count % states
        some = slice(first, first + count)
        spans = rl.trajectories.Spans(**ratios.masks).select(some)
        tokens = self._counted(rollouts, spans).sum(2)
        terms = tokens if self.surrogate == "merge" else (tokens > 0).long()
        reference = ratios.reference if self.kl_to == "reference" else ratios.old
        return EgspoUpdate(
            spans=spans,
            advantage=buffer_data.advantage[:, some],
            weight=self._weights(tokens),
            terms=terms.sum(1).clamp(min=1),
            old=ratios.old,
            reference=reference,
        )

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: EgspoBuffer, update_data: EgspoUpdate
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute −min(ρA, clip(ρ)A) + β · k3, a term for each step or each token of a segment, under their weights."""
        rows, metrics = self._of_spans(policy, rollouts, update_data, slice(None))
        return rows, metrics | {"kl": buffer_data.ratios.kl}

    def losses(
        self, policy: Policy, rollouts: Rollouts, buffer_data: EgspoBuffer, update_data: EgspoUpdate
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield the loss in parts of at most `micro_batch_size` sequences."""
        for some in rollouts.copies_at_once(update_data.weight.shape[1]):
            rows, metrics = self._of_spans(policy, rollouts, update_data, some)
            yield rows, metrics | ({"kl": buffer_data.ratios.kl} if some.start == 0 else {})

    def _of_spans(
        self, policy: Policy, rollouts: Rollouts, update_data: EgspoUpdate, some: slice
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the part of the loss and of the metrics that some spans add."""
        spans = update_data.spans.select(some)
        counted = self._counted(rollouts, spans)
        new = rl.trajectories.token_scores(policy.model, *rollouts.inputs, rollouts.unmask_step, spans)
        old, reference = (values[:, None] * counted for values in (update_data.old, update_data.reference))
        # A step is one action: its tokens have one ratio.
        if self.surrogate == "steps":
            new, old, reference, counted = (values.sum(2, keepdim=True) for values in (new, old, reference, counted))
            counted = counted > 0
        advantage = update_data.advantage[:, some, None]
        term, clipped = rl.losses.clipped_loss(new, old, advantage, self.clip, self.clip_above)
        term = term + self.kl_penalty * rl.losses.k3(new, reference)
        rows = (term * counted * update_data.weight[:, some, None]).sum((1, 2))
        return rows, {"clipped": (clipped * counted).sum((1, 2)) / update_data.terms}

    def _counted(self, rollouts: Rollouts, spans: Spans) -> Tensor:
        """Mark the tokens [B, n, L] that count: all that a step committed, of a segment those up to the end of text."""
        scored = spans.scored(rollouts.unmask_step)
        return scored & (rollouts.loss_mask > 0)[:, None] if self.surrogate == "merge" else scored

    def _weights(self, tokens: Tensor) -> Tensor:
        """Compute the weight [B, n] of each term, from the tokens that count in each span [B, n] of the whole buffer.

        A step has 1 / (steps · its tokens), as in the released code, where each commits two.
        """
        if self.surrogate == "merge" and self.average == "tokens":
            return (tokens > 0) / tokens.sum()
        return (tokens > 0) / ((tokens > 0).sum() * tokens.clamp(min=1))

    def _segments(self, rollouts: Rollouts, streams: Streams) -> Rows:
        """Merge the steps of each response into segments."""
        # The same number on all processes, which make each pass together.
        count = self.states or int(rollouts.nfe.max())
        return vars(rl.trajectories.merge(rollouts.nfe, count, self.cut, streams))

    def _steps(self, rollouts: Rollouts, seeds: Seeds) -> Spans:
        """Choose the steps of each response that all updates of the buffer use."""
        count = self.states or int(rollouts.nfe.max())
        streams = rollouts.streams(seeds, "steps")
        trajectory = rollouts.unmask_step, rollouts.entropy
        return rl.trajectories.choose_steps(rollouts.nfe, count, self.choice, streams, *trajectory)

    def _advantage(self, rollouts: Rollouts) -> Tensor:
        """Compute the advantage of each segment [B, N], which is that of the response."""
        reward, size = rollouts.reward, rollouts.group_size
        found = rl.losses.group_advantages(reward, size)
        if self.normalise_advantage:
            found = rl.losses.standardised_advantages(reward, size)
        return found[:, None].expand(-1, self.states or int(rollouts.nfe.max()))

    def _step_advantages(self, rollouts: Rollouts, steps: Spans) -> Tensor:
        """Compute the return of each step less the mean over the group's steps of the same rank [B, K].

        The return is (r + λ (r − r̂)) / (1 + λ), with r̂ the reward of the greedy completion at the step.
        """
        returns = rollouts.reward[:, None].expand_as(steps.first)
        if self.stepwise:
            if rollouts.completion_reward is None:
                raise ValueError("stepwise > 0 needs rollouts with completion_reward, from Egspo.collect")
            returns = (returns + self.stepwise * (returns - rollouts.completion_reward)) / (1 + self.stepwise)
        return rl.losses.ranked_advantages(returns, steps.end > steps.first, rollouts.group_size)


def _score(model: nn.Module, rollouts: Rollouts, masks: Rows) -> Tensor:
    """Score the tokens of the spans [b, L], as many passes at a time as fit into `micro_batch_size`."""
    spans = rl.trajectories.Spans(**masks)
    parts = rollouts.copies_at_once(spans.first.shape[1])
    inputs = *rollouts.inputs, rollouts.unmask_step
    return sum(rl.trajectories.token_scores(model, *inputs, spans.select(some)).sum(1) for some in parts)
