"""A policy and a buffer whose losses can be worked out by hand: a table that says 0 with one probability everywhere."""

import math

import torch
from torch import tensor

from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.rl.rollouts import Rollouts

LN2 = math.log(2)


def say(model, q):
    """Make the model say token 0 with probability q at every position of every state."""
    model.table.data[..., 0], model.table.data[..., 1] = math.log(q), math.log(1 - q)


def even_policy():
    """A policy over two tokens and two positions, even everywhere, as is its reference."""
    policy = Policy(TabularModel(2, 2, 0.0, torch.Generator()), tokenizer=None)
    say(policy.model, 0.5)
    policy.set_reference()
    return policy


def pair_of_responses():
    """The responses 01 and 11 with rewards 1 and 0, drawn one token a step from the even policy."""
    prompt = torch.zeros((2, 1), dtype=torch.long)
    return Rollouts(
        prompt=prompt, prompt_mask=torch.ones_like(prompt, dtype=torch.bool), response=tensor([[0, 1], [1, 1]]),
        unmask_step=tensor([[0, 1], [1, 0]]), log_prob_t1=torch.full((2, 2), -LN2),
        nfe=tensor([2, 2]), reward=tensor([1.0, 0.0]), correct=tensor([1.0, 0.0]), loss_mask=torch.ones((2, 2)),
        group_size=2, buffer_rows=2, micro_batch_size=2,
    )  # fmt: skip
