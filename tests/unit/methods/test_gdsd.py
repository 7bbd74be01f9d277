"""GDSD's loss by hand, its clamp, and logit centralisation."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from helpers.by_hand import LN2, even_policy, pair_of_responses, say
from helpers.every_method import GDSD, SEEDS
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.training.tabular import sample

# Two pairs: one masks a token each, with weights 3, the other both tokens and none, with weights 3/2 and 0.
MASKED = tensor([[[True, False], [False, True], [True, True], [False, False]]] * 2)
WEIGHT = tensor([[3.0, 3.0, 1.5, 0.0]] * 2)
OLD = tensor([[-3 * LN2, -3 * LN2, -3 * LN2, 0.0]] * 2)


def moved(**changes):
    """Loss rows and metrics after the even policy has become π(0) = 3/4, on the two pairs of copies."""
    policy, rollouts, method = even_policy(), pair_of_responses(), replace(GDSD, **{"psi": 0.1} | changes)
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    weight = WEIGHT if method.weighted else update_data.weight
    old = OLD if method.weighted else tensor([[-LN2, -LN2, -2 * LN2, 0.0]] * 2)
    reference = old if method.kl_penalty else None
    update_data = replace(update_data, masked=MASKED, weight=weight, old=old, reference=reference)
    say(policy.model, 0.75)
    return method.loss(policy, rollouts, buffer_data, update_data)


CHANGE = [math.log(0.75), 2 * math.log(0.5)]  # of the log-probabilities of both tokens of 01 and of 11
PAIRS = [(1.5 * change, 0.75 * change) for change in CHANGE]


def test_gdsd_by_hand():
    """Δ is the mean over pairs, 1.125 times the change; leave-one-out advantages are ±1."""
    rows, metrics = moved()
    ratios = [sum(pair) / 2 for pair in PAIRS]
    assert_close(metrics["log_ratio"], tensor(ratios))
    assert_close(rows, tensor([(ratios[0] / 2 - 0.1) ** 2, (ratios[1] / 2 + 0.1) ** 2]) / 2)


def test_errors_of_pairs_are_summed_and_each_is_clamped():
    rows, _ = moved(fit="pair")
    expected = [sum((x / 2 - target) ** 2 for x in pair) for pair, target in zip(PAIRS, (0.1, -0.1), strict=True)]
    assert_close(rows, tensor(expected) / 2)
    rows, metrics = moved(fit="pair", clamp=0.25)  # log ¾ = −0.29: of 01 the second pair, −0.22, is inside
    low = math.log(0.75)
    expected = [(low / 2 - 0.1) ** 2 + (PAIRS[0][1] / 2 - 0.1) ** 2, 2 * (low / 2 + 0.1) ** 2]
    assert_close(rows, tensor(expected) / 2)
    assert metrics["clamped"].tolist() == [0.5, 1.0]


def test_without_weights_a_pair_scores_each_token_once():
    rows, _ = moved(weighted=False)
    assert_close(rows, tensor([(CHANGE[0] / 4 - 0.1) ** 2, (CHANGE[1] / 4 + 0.1) ** 2]) / 2)


@pytest.mark.parametrize("fit", ["response", "pair"])
def test_the_penalty_is_k2_divided_by_the_length(fit):
    added = moved(kl_penalty=0.3, fit=fit)[0] - moved(fit=fit)[0]
    ratios = PAIRS if fit == "pair" else [(sum(pair) / 2,) for pair in PAIRS]
    expected = [sum(x**2 / 2 for x in pair) / len(pair) / 2 for pair in ratios]
    assert_close(added, 0.3 * tensor(expected) / 2)


@pytest.fixture
def sampled():
    model = TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0))
    policy = Policy(model, tokenizer=None)
    policy.set_reference()
    return policy, sample(model, torch.rand(81, generator=torch.Generator().manual_seed(1)), 3, 4, Seeds((1,)))


def gradient(method, policy, rollouts, moved_by):
    """Loss rows and gradient after every logit has moved by so much times a fixed random direction."""
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    table = policy.model.table
    before = table.data.clone()
    table.data += moved_by * torch.randn(table.shape, generator=torch.Generator().manual_seed(2))
    update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    rows, metrics = method.loss(policy, rollouts, buffer_data, update_data)
    (found,) = torch.autograd.grad(rows.sum(), table)
    table.data = before
    return rows.detach(), found, metrics


RELEASED = replace(GDSD, psi=10.0, clamp=4e-4, fit="pair")


def test_the_clamp_leaves_a_gradient_only_inside(sampled):
    """At the old policy all pairs have one, −2ψA ∇Δ/L; after a move of the logits by 0.1 none has."""
    policy, rollouts = sampled
    _, inside, metrics = gradient(RELEASED, policy, rollouts, 0.0)
    assert not metrics["clamped"].any()
    _, free, _ = gradient(replace(RELEASED, clamp=0.0), policy, rollouts, 0.0)
    assert_close(inside, free)
    assert inside.abs().max() > 0
    _, outside, metrics = gradient(RELEASED, policy, rollouts, 0.1)
    assert metrics["clamped"].all()
    assert torch.equal(outside, torch.zeros_like(outside))


class Centred(TabularModel):
    """A table whose logits lose their mean before the softmax, as in the released code."""

    def log_probs(self, hidden):
        return super().log_probs(hidden - hidden.mean(-1, keepdim=True).detach())


@pytest.mark.parametrize("method", [GDSD, RELEASED], ids=["paper", "released"])
def test_centralised_logits_change_neither_value_nor_gradient(sampled, method):
    policy, rollouts = sampled
    other = Centred(3, 4, 1.0, torch.Generator().manual_seed(0))
    centred = Policy(other, tokenizer=None)
    assert not torch.allclose(other.table.mean(-1), torch.zeros(()), atol=0.1)
    for moved_by in (0.0, 0.001):
        rows, found, _ = gradient(method, policy, rollouts, moved_by)
        again, same, _ = gradient(method, centred, rollouts, moved_by)
        assert_close(again, rows, atol=1e-5, rtol=1e-4)
        assert_close(same, found, atol=1e-6, rtol=1e-3)
        assert found.abs().max() > 1e-3
