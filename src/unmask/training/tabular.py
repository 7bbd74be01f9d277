"""Training of the exact toy: the real methods, sampler and rollout record, with a reward table instead of a task.

The loop of trainer.py without what a small table does not need: no prompts, no micro-batches, no checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.common.seeding import Seeds
from unmask.config.schema.samplers import RandomOrder
from unmask.methods import Method
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel, index_of
from unmask.rl.rollouts import Rollouts
from unmask.rl.row_checks import check_losses
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

NO_END = -1  # end-of-text id that no token has


@dataclass(frozen=True)
class Loop:
    """Schedule of a toy training run."""

    groups: int  # per buffer; all share the one empty prompt
    group_size: int
    updates: int
    updates_per_buffer: int
    learning_rate: float  # initial; decays linearly to zero


def sample(model: TabularModel, reward: Tensor, groups: int, group_size: int, seeds: Seeds) -> Rollouts:
    """Sample responses from p_θ in random order, with rewards from the table [V^L]."""
    # One dummy token, because the decoder expects a prompt; the table ignores it.
    rows = groups * group_size
    prompt = torch.zeros((rows, 1), dtype=torch.long)
    prompt_mask = torch.ones_like(prompt, dtype=torch.bool)

    # Random order and temperature 1 make p_θ the very distribution that `models.tabular.log_likelihood` enumerates.
    settings = DecodingSettings(model.length, model.length, RandomOrder(), temperature=1.0)
    streams = seeds.streams("sampler", rows=torch.arange(rows))
    made = decode(model, prompt, prompt_mask, settings, eot=NO_END, streams=streams)
    earned = reward[index_of(made.response, model.vocabulary)]
    everything = torch.ones_like(made.log_prob_t1)
    return Rollouts(
        prompt=prompt,
        prompt_mask=prompt_mask,
        **vars(made),
        reward=earned,
        correct=earned,
        loss_mask=everything,
        group_size=group_size,
        buffer_rows=rows,
        micro_batch_size=rows,
    )


def train(model: TabularModel, reward: Tensor, method: Method, loop: Loop, seeds: Seeds) -> Iterator[int]:
    """Train the model in place, with the initial model as reference; yield the number of updates done, 0 first."""
    policy = Policy(model, tokenizer=None)
    policy.set_reference()
    optimizer = torch.optim.Adam(policy.trainable().values(), loop.learning_rate, (0.9, 0.99))
    yield 0
    for update in range(loop.updates):
        buffer, inner = divmod(update, loop.updates_per_buffer)
        if inner == 0:
            drawn = seeds.child("buffer", buffer)
            rollouts = sample(model, reward, loop.groups, loop.group_size, drawn)
            buffer_data = method.prepare(policy, rollouts, loop.updates_per_buffer, drawn)
        update_data = method.refresh(policy, rollouts, buffer_data, inner, seeds.child("update", update))

        # The table fits in memory, so one loss over the whole buffer replaces the trainer's sum over micro-batches.
        rows, metrics = method.loss(policy, rollouts, buffer_data, update_data)
        check_losses(method, rows, metrics, len(rollouts))
        optimizer.zero_grad()
        rows.sum().backward()
        remaining = 1 - update / loop.updates
        optimizer.param_groups[0]["lr"] = loop.learning_rate * remaining
        optimizer.step()
        yield update + 1
