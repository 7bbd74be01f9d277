"""Advantages, weights and losses against numbers worked out by hand."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from unmask.rl.losses import (
    above,
    binned,
    clamped_importance,
    clamped_softmax,
    clipped_loss,
    coefficient_for,
    effective_sample_size,
    group_advantages,
    group_softmax,
    k2,
    k3,
    leave_one_out_advantages,
    regression,
    softmax_difference,
    wddo_loss,
)


def test_each_weight_is_in_one_bin():
    """An edge belongs to the bin above it."""
    found = binned(tensor([-5.0, -4.0, 0.0, 0.05, 1.0, 16.0]))
    assert {name: rows.nonzero().flatten().tolist() for name, rows in found.items() if rows.any()} == {
        "weight_from_-inf": [0], "weight_from_-4": [1], "weight_from_-0.05": [2], "weight_from_0.05": [3],
        "weight_from_1": [4], "weight_from_4": [5],
    }  # fmt: skip
    assert_close(torch.stack(list(found.values())).sum(0), torch.ones(6))


def test_advantages_are_taken_within_groups():
    reward = tensor([1.0, 0.0, 0.5, 0.5, 2.0, 4.0, 0.0, 0.0])
    assert_close(group_advantages(reward, 4), tensor([0.5, -0.5, 0.0, 0.0, 0.5, 2.5, -1.5, -1.5]))
    assert_close(leave_one_out_advantages(reward[:4], 4), tensor([2 / 3, -2 / 3, 0.0, 0.0]))
    alone = reward[0] - reward[1:4].mean()
    assert_close(leave_one_out_advantages(reward, 4)[0], alone)


def test_clipped_loss_takes_the_pessimistic_branch():
    new, old = tensor([1.5, 0.5, 1.5, 0.5]).log(), torch.zeros(4)
    advantage = tensor([2.0, 2.0, -2.0, -2.0])
    loss, clipped = clipped_loss(new, old, advantage, 0.2)
    assert_close(loss, tensor([-2.4, -1.0, 3.0, 1.6]))
    assert clipped.tolist() == [True, False, False, True]


def test_k3_is_its_formula():
    new, reference = tensor([0.75, 0.25]).log(), tensor([0.5, 0.5]).log()
    expected = tensor([2 / 3 - math.log(2 / 3) - 1, 2 - math.log(2) - 1])
    assert_close(k3(new, reference), expected)
    mean = (tensor([0.75, 0.25]) * k3(new, reference)).sum()  # its expectation under `new` is KL(new ‖ reference)
    assert_close(mean, tensor(0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_importance_weights_are_one_where_surrogate_is_behaviour_and_clamped_above():
    surrogate = tensor([0.5, 0.5, 0.5]).log()
    assert_close(clamped_importance(surrogate, tensor([0.5, 0.1, 1.0]).log(), 2.0), tensor([1.0, 2.0, 0.5]))


def test_group_softmax_has_mean_one_in_each_group():
    logits = tensor([math.log(3.0), 0.0, 5.0, 5.0])
    assert_close(group_softmax(logits, 2), tensor([1.5, 0.5, 1.0, 1.0]))


def test_effective_sample_size_of_even_and_of_one_sided_weights():
    weight = tensor([1.0, 1.0, 1.0, 1.0, 4.0, 0.0, 0.0, 0.0, 3.0, 1.0, 0.0, 0.0])
    expected = tensor([1.0, 0.25, 16 / 10 / 4]).repeat_interleave(4)
    assert_close(effective_sample_size(weight, 4), expected)


def test_the_coefficient_hits_the_target_or_stays_one():
    logits = torch.cat((tensor([10.0, 0.0, -3.0, 1.0]), tensor([0.1, 0.0, 0.0, 0.1])))
    coefficient = coefficient_for(logits, 4, 0.5)
    reached = effective_sample_size(group_softmax(coefficient * logits, 4), 4)
    assert_close(reached[:4], torch.full((4,), 0.5), atol=1e-4, rtol=0)
    assert torch.all(coefficient[4:] == 1)
    assert torch.all(coefficient[:4] < 0.3)


def test_wddo_value_and_minimum():
    up, down = tensor([math.log(3.0)]), tensor([0.0])
    expected = -(1.5 * math.log(0.75) + 2.0 * math.log(0.5))
    assert float(wddo_loss(tensor([1.5]), up, down, 1.0, 2.0)) == pytest.approx(expected)
    ratio = torch.linspace(-3, 3, 6001)
    for weight in (0.2, 1.0, 4.0):  # least at p_θ / p_old = w
        loss = wddo_loss(torch.full_like(ratio, weight), ratio, ratio, 1.0, 1.0)
        assert float(ratio[loss.argmin()]) == pytest.approx(math.log(weight), abs=2e-3)


def test_k2_is_its_formula_and_has_the_gradient_of_the_divergence():
    assert_close(k2(tensor([1.0, -2.0]), tensor([3.0, -2.0])), tensor([2.0, 0.0]))
    logits = tensor([0.3, -0.2, 0.5], requires_grad=True)
    reference = tensor([0.2, 0.5, 0.3]).log()
    log_p = logits.log_softmax(0)
    (exact,) = torch.autograd.grad((log_p.exp() * (log_p - reference)).sum(), logits, retain_graph=True)
    (estimated,) = torch.autograd.grad((log_p.exp().detach() * k2(log_p, reference)).sum(), logits)
    assert_close(estimated, exact)


def test_softmax_difference_by_hand_and_zero_for_equal_rewards():
    logits = tensor([math.log(3.0), 0.0, 5.0, 5.0])
    assert_close(softmax_difference(logits, 2, True), tensor([1 / 4 - 3 / 4, 3 / 4 - 1 / 4, 0.0, 0.0]) / 2)
    assert_close(softmax_difference(logits, 2, False), tensor([-3 / 4, -1 / 4, -1 / 2, -1 / 2]) / 2)


def test_clamped_softmax_sums_to_one_and_clamps_above_only():
    log_weight = tensor([3.0, 0.0, math.log(5.0), -9.0, 0.1, 0.1])
    found = clamped_softmax(log_weight, 2, 5.0)
    assert_close(found.view(3, 2).sum(1), torch.ones(3))
    assert_close(found[:2], tensor([5 / 6, 1 / 6]))
    assert_close(found[2], tensor(5.0) / (5 + math.exp(-9)))
    assert above(log_weight, 5.0).tolist() == [1, 0, 0, 0, 0, 0]


def test_regression_has_a_gradient_only_inside_of_its_clamp():
    """(Δ/L − target)²: 2/L (Δ/L − target) for |Δ| within log(1 ± ε), 0 outside."""
    low, high = math.log(0.5), math.log(1.5)
    ratio = tensor([[low - 0.01, low + 0.01], [high - 0.01, high + 0.01]], requires_grad=True)
    rows, outside = regression(ratio, 4, tensor([1.0, 2.0]), 0.5)
    assert outside.tolist() == [[True, False], [False, True]]
    inside = [low, low + 0.01, high - 0.01, high]
    expected = [(x / 4 - target) ** 2 for x, target in zip(inside, [1.0, 1.0, 2.0, 2.0], strict=True)]
    assert_close(rows, tensor([expected[0] + expected[1], expected[2] + expected[3]]))
    rows.sum().backward()
    slope = [0.0, 2 / 4 * ((low + 0.01) / 4 - 1), 2 / 4 * ((high - 0.01) / 4 - 2), 0.0]
    assert_close(ratio.grad.flatten(), tensor(slope))
    free, outside = regression(ratio.detach(), 4, tensor([1.0, 2.0]), 0.0)
    assert not outside.any()
    assert float(free[0].detach()) == pytest.approx(((low - 0.01) / 4 - 1) ** 2 + expected[1])
