"""ESPO's loss by hand and by enumeration, and which masks its policies are scored on."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from helpers.by_hand import LN2, even_policy, pair_of_responses, say
from helpers.every_method import ESPO, SEEDS
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.rl import likelihoods
from unmask.rl.likelihoods import draw_copies
from unmask.rl.sequence_ratio import copies_of
from unmask.training.tabular import sample

# One pair of copies that mask a token each: the weight is (L + 1)/m = 3, and Ê = ½ · 3 · Σ log π.
ONE_EACH = tensor([[[True, False], [False, True]]] * 2)
THREE = torch.full((2, 2), 3.0)


def moved(**changes):
    """Loss rows and metrics after the even policy has become π(0) = 3/4, on the pair of copies."""
    policy, rollouts, method = even_policy(), pair_of_responses(), replace(ESPO, copies=2, **changes)
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    old = torch.full((2, 2), -1.5 * LN2)  # per token
    reference = old if method.kl_penalty else None
    update_data = replace(update_data, old=old, reference=reference, masked=ONE_EACH, weight=THREE)
    say(policy.model, 0.75)
    return method.loss(policy, rollouts, buffer_data, update_data)


# Per token the ratio is 1.5 for a 0 and ½ for a 1, so Δ is 1.5 log ¾ for 01 and 3 log ½ for 11; advantages are ±1.
DELTA = [1.5 * math.log(0.75), 3 * math.log(0.5)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [-(0.75**0.75), 0.8]),  # exp(Δ/2) = 0.81 and 0.35, clipped to [0.8, 1.2]
        ({"clip": 0.0}, [-(0.75**0.75), 1.0]),
        ({"normalise": False}, [-(0.75**1.5), 0.8]),
        ({"ratio": "token"}, [-(1.2 + 0.5**1.5) / 2, 0.8]),
    ],
)
def test_espo_by_hand(changes, expected):
    rows, metrics = moved(**changes)
    assert_close(rows, tensor(expected) / 2)
    assert_close(metrics["log_ratio"], tensor(DELTA))
    assert "kl" not in metrics


def test_the_penalty_is_k2_of_sequence_sums_divided_once_by_the_length():
    plain, _ = moved()
    rows, _ = moved(kl_penalty=0.3)
    assert_close(rows - plain, 0.3 * tensor([delta**2 / 2 / 2 for delta in DELTA]) / 2)
    rows, _ = moved(kl_penalty=0.3, divergence="k3")
    assert_close(rows - plain, 0.3 * tensor([math.exp(-delta) + delta - 1 for delta in DELTA]) / 2 / 2)


def test_all_tokens_count_also_after_the_end():
    """The released estimator reads the whole response."""
    policy, rollouts = even_policy(), pair_of_responses()
    short = replace(rollouts, loss_mask=tensor([[1.0, 0.0], [1.0, 1.0]]))
    losses = []
    for buffer in (rollouts, short):
        buffer_data = ESPO.prepare(policy, buffer, 1, SEEDS)
        update_data = ESPO.refresh(policy, buffer, buffer_data, 0, SEEDS)
        losses.append(ESPO.loss(policy, buffer, buffer_data, update_data)[0])
    assert torch.equal(*losses)


@pytest.fixture
def sampled():
    model = TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0))
    policy = Policy(model, tokenizer=None)
    policy.set_reference()
    return policy, sample(model, torch.rand(81, generator=torch.Generator().manual_seed(1)), 3, 4, Seeds((1,)))


def test_the_gradient_at_the_old_policy_is_that_of_the_weighted_elbo(sampled):
    """∇ loss = −(1/B) Σ_i A_i ∇Ê_i/L where ρ = 1: Ê by another function, on the same copies."""
    policy, rollouts = sampled
    buffer_data = ESPO.prepare(policy, rollouts, 2, SEEDS)
    update_data = ESPO.refresh(policy, rollouts, buffer_data, 1, SEEDS)
    rows, metrics = ESPO.loss(policy, rollouts, buffer_data, update_data)
    assert torch.equal(metrics["log_ratio"], torch.zeros(12))
    (found,) = torch.autograd.grad(rows.sum(), policy.model.table)
    elbo = likelihoods.elbo(policy.model, *rollouts.inputs, copies_of(update_data))
    reward = rollouts.reward.view(3, 4)
    advantage = (reward - (reward.sum(1, keepdim=True) - reward) / 3).flatten()
    (expected,) = torch.autograd.grad(-(advantage * elbo).sum() / 4 / 12, policy.model.table)
    assert_close(found, expected)
    assert found.abs().max() > 0


def test_updates_have_masks_of_their_own_and_policies_share_them(sampled):
    policy, rollouts = sampled
    method = replace(ESPO, kl_penalty=0.1)
    buffer_data = method.prepare(policy, rollouts, 3, SEEDS)
    masks = [method.refresh(policy, rollouts, buffer_data, update, SEEDS).masked for update in range(3)]
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[1], masks[2])
    assert_close(buffer_data.old, buffer_data.reference)  # the policy is its reference, so the masks are the same


def test_without_strata_the_copies_are_those_of_the_uniform_antithetic_elbo(sampled):
    policy, rollouts = sampled
    drawn = []
    for changes in ({"levels": "uniform"}, {"micro_batch_rows": 1}):
        buffer_data = replace(ESPO, **changes).prepare(policy, rollouts, 1, SEEDS)
        drawn.append(buffer_data)
    expected = draw_copies(4, 4, "uniform", rollouts.streams(SEEDS, "copies", 0))
    for buffer_data in drawn:
        assert torch.equal(buffer_data.masked[:, 0], expected.masked)
        assert torch.equal(buffer_data.weight[:, 0], expected.weight)
        assert_close(buffer_data.old[:, 0].sum(1), likelihoods.elbo(policy.model, *rollouts.inputs, expected).detach())


def test_levels_are_spread_over_the_group_or_the_rows_of_a_micro_batch(sampled):
    """Four rows and five levels: 0, 1, 3 (of 2.5), 4 from an offset; two rows: 0, 3."""
    policy, rollouts = sampled
    for together, steps in ((0, [0, 1, 3, 4]), (2, [0, 3])):
        buffer_data = replace(ESPO, micro_batch_rows=together).prepare(policy, rollouts, 1, SEEDS)
        sizes = buffer_data.masked[:, 0, ::2].sum(-1).view(-1, len(steps), 2)
        assert torch.equal(sizes, (sizes[:, :1] + tensor(steps)[:, None]) % 5)
