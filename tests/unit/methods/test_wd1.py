"""wd1's weights and loss by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from helpers.by_hand import even_policy, pair_of_responses, say
from helpers.every_method import SEEDS, WD1
from unmask.common.seeding import Seeds
from unmask.training.tabular import sample


def loss_of(method, rollouts, q=0.75):
    policy = even_policy()
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    say(policy.model, q)
    return policy, method.loss(policy, rollouts, buffer_data, update_data)[0]


LIKELIHOOD = tensor([math.log(0.75 * 0.25), math.log(0.25**2)])


@pytest.mark.parametrize("psi", [1.0, 3.0])
def test_wd1_by_hand(psi):
    """Advantages ±½, so w⁺ = (σ(ψ), σ(−ψ)) and w⁻ − w⁺ = ∓tanh(ψ/2); log-likelihoods are sums over tokens."""
    _, rows = loss_of(replace(WD1, psi=psi), pair_of_responses())
    assert_close(rows, math.tanh(psi / 2) * tensor([-1.0, 1.0]) * LIKELIHOOD)


def test_without_negatives_every_response_is_raised():
    up = 1 / (1 + math.exp(-1))
    _, rows = loss_of(replace(WD1, negative=False), pair_of_responses())
    assert_close(rows, tensor([-up, -(1 - up)]) * LIKELIHOOD)


def test_tokens_after_the_end_of_text_do_not_count():
    rollouts = replace(pair_of_responses(), loss_mask=tensor([[1.0, 0.0], [1.0, 1.0]]))
    _, rows = loss_of(WD1, rollouts)
    assert_close(rows[0], tensor(-math.tanh(0.5) * math.log(0.75)))


def test_equal_rewards_give_neither_loss_nor_gradient():
    rollouts = replace(pair_of_responses(), reward=tensor([0.7, 0.7]))
    policy, rows = loss_of(WD1, rollouts)
    assert torch.equal(rows, torch.zeros(2))
    rows.sum().backward()
    assert torch.equal(policy.model.table.grad, torch.zeros_like(policy.model.table))


def test_a_softmax_is_over_the_group_or_over_the_rows_of_a_device():
    policy = even_policy()
    rollouts = sample(policy.model, torch.rand(4), 3, 4, Seeds((1,)))
    rollouts.reward = tensor([1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5])
    advantage = (rollouts.reward.view(3, 4) - rollouts.reward.view(3, 4).mean(1, keepdim=True)).flatten()
    for together, runs in ((0, 3), (4, 3), (12, 1)):
        weight = replace(WD1, micro_batch_rows=together).prepare(policy, rollouts, 1, SEEDS).weight
        parts = advantage.view(runs, -1)
        assert_close(weight, ((-parts).softmax(1) - parts.softmax(1)).flatten() / runs)
        assert_close(weight.view(runs, -1).sum(1), torch.zeros(runs))
