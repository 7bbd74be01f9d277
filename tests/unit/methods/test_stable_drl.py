"""StableDRL's weights and loss by hand."""

import math
from dataclasses import replace

import torch
from torch import tensor
from torch.testing import assert_close

from helpers.by_hand import even_policy, pair_of_responses, say
from helpers.every_method import SEEDS, SPG, STABLE_DRL
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.training.tabular import sample


def updated(method, rollouts, q=0.75):
    """Buffer and update data, and loss, where the even policy has come to say 0 with probability q."""
    policy = even_policy()
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    say(policy.model, q)
    update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS.child(1))
    return buffer_data, update_data, method.loss(policy, rollouts, buffer_data, update_data)


def test_weights_by_hand():
    """Responses 00 and 11: log-weights log 3/2 and log ½ whatever the masks, so v = (¾, ¼); then clamped at 1.2."""
    rollouts = replace(pair_of_responses(), response=tensor([[0, 0], [1, 1]]))
    _, update_data, (rows, metrics) = updated(STABLE_DRL, rollouts)
    assert_close(update_data.log_weight, tensor([1.5, 0.5]).log())
    assert_close(update_data.weight, tensor([0.75, 0.25]))
    assert metrics["clamped"].tolist() == [0, 0]
    assert_close(rows[0], tensor(-0.75 * 0.5 * math.log(0.75)))
    _, update_data, (_, metrics) = updated(replace(STABLE_DRL, clamp=1.2), rollouts)
    assert_close(update_data.weight, tensor([1.2, 0.5]) / 1.7)
    assert metrics["clamped"].tolist() == [1, 0]


def test_weights_sum_to_one_in_each_group_and_the_loss_is_spgs_bound_with_them():
    policy = Policy(TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)), tokenizer=None)
    rollouts = sample(policy.model, torch.rand(81, generator=torch.Generator().manual_seed(1)), 3, 4, Seeds((1,)))
    buffer_data = STABLE_DRL.prepare(policy, rollouts, 2, SEEDS)
    policy.model.table.data += 0.5 * torch.randn(policy.model.table.shape, generator=torch.Generator().manual_seed(2))
    update_data = STABLE_DRL.refresh(policy, rollouts, buffer_data, 0, SEEDS.child(1))
    assert_close(update_data.weight.view(3, 4).sum(1), torch.ones(3))
    assert not update_data.weight.requires_grad
    rows, _ = STABLE_DRL.loss(policy, rollouts, buffer_data, update_data)
    (found,) = torch.autograd.grad(rows.sum(), policy.model.table)

    # SPG weights all responses by their length, which is equal here: 1/12 each, in place of v/3.
    spg = SPG.prepare(policy, rollouts, 2, SEEDS)
    masks = replace(SPG.refresh(policy, rollouts, spg, 0, SEEDS), masked=update_data.masked, drop=update_data.drop)
    bounds, _ = SPG.loss(policy, rollouts, spg, masks)
    assert_close(rows, bounds * 4 * update_data.weight)
    (expected,) = torch.autograd.grad((bounds * 4 * update_data.weight).sum(), policy.model.table)
    assert_close(found, expected)


def test_the_old_policy_is_scored_on_other_masks():
    """An unchanged policy therefore has weights other than 1/G."""
    policy = Policy(TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)), tokenizer=None)
    rollouts = sample(policy.model, torch.rand(81), 3, 4, Seeds((1,)))
    buffer_data = STABLE_DRL.prepare(policy, rollouts, 2, SEEDS)
    log_weight = STABLE_DRL.refresh(policy, rollouts, buffer_data, 0, SEEDS.child(1)).log_weight
    assert log_weight.abs().mean() > 0.1
    same = STABLE_DRL.refresh(policy, rollouts, buffer_data, 0, SEEDS).log_weight  # the seeds of `prepare`
    assert_close(same, torch.zeros(12))
