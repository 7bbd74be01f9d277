"""Rewards of greedy one-shot completions: what a state of the trajectory would earn if it were completed at once."""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.models.policy import Policy
from unmask.rl.likelihoods import response_states
from unmask.rl.rollouts import Rollouts, RolloutSettings
from unmask.rl.trajectories import Spans
from unmask.samplers.token_sampling import draw
from unmask.tasks import Example, Task, total_reward, without_prefill


def completion_rewards(
    policy: Policy, task: Task, examples: list[Example], rollouts: Rollouts, spans: Spans, settings: RolloutSettings
) -> Tensor:
    """Reward the completion of each response at the first state of each span [B, K] [EGSPO-SA, arXiv 2603.12554].

    Every masked position takes its most probable token, in one forward pass; tokens that were committed before stay.
    """
    task = task if settings.prefill else without_prefill(task)
    with policy.merged():
        tokens = rollouts.map(lambda *some: _completed(policy, settings, *some), spans.first, spans.end)

    # Each process decodes and rewards its share of the responses, each with all of its completions.
    mine = distributed.local_slice(len(tokens))
    rewards = []
    for row, completions in enumerate(tokens[mine], start=mine.start):
        example = examples[row // rollouts.group_size]
        texts = policy.judged(policy.texts(completions))
        rewards.append([total_reward(task, text, example) for text in texts])
    return distributed.gather(torch.tensor(rewards, dtype=torch.float32, device=tokens.device))


def _completed(policy: Policy, settings: RolloutSettings, part: Rollouts, first: Tensor, end: Tensor) -> Tensor:
    """Complete the responses of a part at the first state of each of their spans: token ids [b, K, L]."""
    made = []
    for some in part.copies_at_once(first.shape[1]):
        hidden = Spans(first, end).select(some).hidden(part.unmask_step)
        k = hidden.shape[1]
        masked = hidden.flatten(0, 1)
        tokens = part.response.repeat_interleave(k, 0)
        noisy = tokens.masked_fill(masked, policy.model.config.mask_token_id)
        prompt, prompt_mask = part.prompt.repeat_interleave(k, 0), part.prompt_mask.repeat_interleave(k, 0)
        states = response_states(policy.model, prompt, prompt_mask, noisy)
        best, _ = draw(policy.model, states[masked], 0.0, None, forbidden=settings.decoding.sampler.forbidden)
        made.append(tokens.masked_scatter(masked, best).view(hidden.shape))
    return torch.cat(made, 1)
