"""GDPO's loss by hand and its gradient at the old policy."""

import math
from dataclasses import replace

import torch
from torch import tensor
from torch.testing import assert_close

from helpers.by_hand import LN2, even_policy, pair_of_responses, say
from helpers.every_method import GDPO, SEEDS
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.rl import likelihoods
from unmask.rl.sequence_ratio import copies_of
from unmask.training.tabular import sample


def moved(**changes):
    """Loss rows and metrics after the even policy has become π(0) = 3/4; the first copy masks the first token."""
    policy, rollouts, method = even_policy(), pair_of_responses(), replace(GDPO, **changes)
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    assert_close(update_data.weight, tensor([[2.0, 1.0]] * 2))  # N w L/m for one and two of two tokens
    masked = tensor([[[True, False], [True, True]]] * 2)
    old = tensor([[-2 * LN2, -2 * LN2]] * 2)
    update_data = replace(update_data, masked=masked, old=old, reference=old if method.kl_penalty else None)
    say(policy.model, 0.75)
    return method.loss(policy, rollouts, buffer_data, update_data)


# Ê = ℓ_1 + ½ (ℓ_1 + ℓ_2), with changes log 3/2 of a 0 and log ½ of a 1.
DELTA = [1.5 * math.log(1.5) + 0.5 * math.log(0.5), 2 * math.log(0.5)]


def test_gdpo_by_hand():
    """ρ is 1.14 and ½, clipped to [0.8, 1.2], advantages ±½; divided by L and by the number of responses."""
    rows, metrics = moved()
    assert_close(metrics["log_ratio"], tensor(DELTA))
    assert metrics["clipped"].tolist() == [0, 1]
    assert_close(rows, tensor([-0.5 * math.exp(DELTA[0] / 2), 0.5 * 0.8]) / 2 / 2)


def test_the_penalty_is_k2_divided_by_the_length():
    rows, _ = moved(kl_penalty=0.3)
    assert_close(rows - moved()[0], 0.3 * tensor([delta**2 / 2 for delta in DELTA]) / 2 / 2)


def test_the_gradient_at_the_old_policy_is_that_of_the_weighted_elbo():
    """∇ loss = −(1/B) Σ_i (1/L) A_i ∇Ê_i/L where ρ = 1."""
    policy = Policy(TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)), tokenizer=None)
    rollouts = sample(policy.model, torch.rand(81, generator=torch.Generator().manual_seed(1)), 3, 4, Seeds((1,)))
    buffer_data = GDPO.prepare(policy, rollouts, 2, SEEDS)
    update_data = GDPO.refresh(policy, rollouts, buffer_data, 1, SEEDS)
    rows, metrics = GDPO.loss(policy, rollouts, buffer_data, update_data)
    assert torch.equal(metrics["log_ratio"], torch.zeros(12))
    (found,) = torch.autograd.grad(rows.sum(), policy.model.table)
    elbo = likelihoods.elbo(policy.model, *rollouts.inputs, copies_of(update_data))
    reward = rollouts.reward.view(3, 4)
    advantage = (reward - reward.mean(1, keepdim=True)).flatten()
    (expected,) = torch.autograd.grad(-(advantage * elbo).sum() / 4 / 4 / 12, policy.model.table)
    assert_close(found, expected)
    assert found.abs().max() > 0


def test_each_update_has_one_mask_per_node_and_its_own():
    policy = Policy(TabularModel(2, 6, 1.0, torch.Generator().manual_seed(0)), tokenizer=None)
    rollouts = sample(policy.model, torch.rand(64), 2, 4, Seeds((1,)))
    buffer_data = replace(GDPO, nodes=3).prepare(policy, rollouts, 2, SEEDS)
    assert torch.all(buffer_data.masked.sum(-1) == tensor([1, 3, 5]))  # t = 0.113, 0.5, 0.887 of 6 tokens
    assert not torch.equal(buffer_data.masked[:, 0], buffer_data.masked[:, 1])
    assert buffer_data.reference is None


def test_random_levels_are_an_unbiased_elbo_with_as_many_copies():
    """Weights L/m of uniform subsets with m ≥ 1, in place of the fixed sizes of the quadrature."""
    rollouts = pair_of_responses()
    method = replace(GDPO, nodes=3, levels="uniform")
    buffer_data = method.prepare(even_policy(), rollouts, 40, SEEDS)
    masked = buffer_data.masked
    count = masked.sum(-1)
    assert masked.shape[2] == 3
    assert set(count.flatten().tolist()) == {1, 2}
    assert_close(buffer_data.weight, rollouts.length / count)
    # Every token of the even policy has −log 2, so that each copy's term is L times that.
    assert_close(buffer_data.old, torch.full_like(buffer_data.old, -2 * LN2))
