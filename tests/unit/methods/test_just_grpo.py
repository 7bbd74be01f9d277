"""JustGRPO against values by hand and against the enumerated left-to-right policy."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from helpers.every_method import JUST, SEEDS
from helpers.streams import streams
from unmask.config.schema.samplers import LeftToRight, RandomOrder
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel, all_responses, conditional
from unmask.rl.rollouts import Rollouts, loss_mask
from unmask.rl.trajectories import Spans
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

LN2 = math.log(2)


def policy_of(vocabulary, length, scale, seed=0):
    policy = Policy(TabularModel(vocabulary, length, scale, torch.Generator().manual_seed(seed)), tokenizer=None)
    policy.set_reference()
    return policy


def rollouts_of(made, reward, group_size, eot=-1, micro_batch_size=64):
    prompt = torch.zeros((len(made.nfe), 1), dtype=torch.long)
    return Rollouts(
        prompt, prompt == 0, **vars(made), reward=reward, correct=reward, loss_mask=loss_mask(made.response, eot),
        group_size=group_size, buffer_rows=len(reward), micro_batch_size=micro_batch_size,
    )  # fmt: skip


def sampled(policy, rows, eot=-1, block=None):
    length = policy.model.length
    prompt = torch.zeros((rows, 1), dtype=torch.long)
    settings = DecodingSettings(length, block or length, LeftToRight(), temperature=1.0)
    return decode(policy.model, prompt, prompt == 0, settings, eot=eot, streams=streams(rows))


def left_to_right(model, responses):
    """log π_θ(o_t | o_<t) of each response [N, L], by enumeration."""
    length = model.length
    position = torch.arange(length)
    return torch.stack([conditional(model, responses, position < t)[:, t] for t in range(length)], 1)


@pytest.fixture
def even():
    """A policy over two tokens and two positions, even everywhere."""
    return policy_of(2, 2, 0.0)


@pytest.fixture
def four():
    """The responses 01, 11, 11, 00, drawn from left to right from the even policy; the last pair has equal rewards."""
    response, step = tensor([[0, 1], [1, 1], [1, 1], [0, 0]]), tensor([[0, 1]] * 4)
    prompt = torch.zeros((4, 1), dtype=torch.long)
    reward = tensor([1.0, 0.0, 0.1, 0.1])
    return Rollouts(
        prompt, prompt == 0, response, step, torch.full((4, 2), -LN2), tensor([2] * 4), reward=reward, correct=reward,
        loss_mask=torch.ones((4, 2)), group_size=2, buffer_rows=4, micro_batch_size=4,
    )  # fmt: skip


ADVANTAGE = 0.5 / (math.sqrt(0.5) + 1e-4)  # of rewards 1 and 0: their deviation is √½


def moved(method, policy, rollouts, update):
    """Loss rows and metrics after the even policy has become π(0) = 3/4."""
    buffer_data = method.prepare(policy, rollouts, 2, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, update, SEEDS)
    policy.model.table.data[..., 0] = math.log(3)
    return method.loss(policy, rollouts, buffer_data, update_data)


def test_the_first_update_by_hand(even, four):
    """Ratios are 1; two of four responses have an advantage, so each token weighs 1 / (2 L)."""
    rows, metrics = moved(JUST, even, four, 0)
    assert_close(rows, tensor([-ADVANTAGE / 2, ADVANTAGE / 2, 0.0, 0.0]))
    assert_close(metrics["clipped"], torch.zeros(4))
    (found,) = torch.autograd.grad(rows.sum(), even.model.table)
    # −A/4 ∂ log π for each token; the states are __ (8), 0_ (6) and 1_ (7); π(0) is 3/4 in all.
    says_0, says_1 = tensor([0.25, -0.25, 0.0]), tensor([-0.75, 0.75, 0.0])
    expected = torch.zeros_like(found)
    expected[8, 0] = -ADVANTAGE / 4 * (says_0 - says_1)
    expected[6, 1] = -ADVANTAGE / 4 * says_1
    expected[7, 1] = ADVANTAGE / 4 * says_1
    assert_close(found, expected)


def test_later_updates_are_clipped_against_the_recorded_probabilities(even, four):
    """Ratios 1.5 for a 0 and 0.5 for a 1, clipped to [0.8, 1.2]."""
    rows, metrics = moved(JUST, even, four, 1)
    assert_close(rows, ADVANTAGE / 4 * tensor([-(1.2 + 0.5), 0.8 + 0.8, 0.0, 0.0]))
    assert_close(metrics["clipped"], tensor([0.5, 1.0, 0.0, 0.0]))


def test_each_share_of_the_released_code_is_a_mean_of_its_own(even, four):
    """Two shares: the first has two responses with an advantage, the second none."""
    four.reward = tensor([1.0, 0.0, 0.1, 0.2])
    one, _ = moved(JUST, even, four, 0)
    even.model.table.data.zero_()
    two, _ = moved(replace(JUST, micro_steps=2), even, four, 0)
    assert_close(two, 2 * one)
    four.reward = tensor([1.0, 0.0, 0.1, 0.1])
    even.model.table.data.zero_()
    alone, _ = moved(replace(JUST, micro_steps=2), even, four, 0)
    assert_close(alone[:2], two[:2])


def test_equal_rewards_teach_nothing_however_they_are_rounded(even, four):
    four.reward = torch.full((4,), 0.1)
    four.group_size = 4
    assert torch.equal(JUST.prepare(even, four, 1, SEEDS).advantage, torch.zeros(4))


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_rollouts_have_the_enumerated_probabilities_and_the_loss_their_gradient(length):
    """T = 1 up to L = 6, for every response: −Σ A ∇ log p(o) / (L · responses with an advantage)."""
    policy = policy_of(2, length, 1.0, seed=3)
    made = sampled(policy, 64)
    exact = left_to_right(policy.model, made.response)
    assert_close(made.log_prob_t1, exact.detach())
    rollouts = rollouts_of(made, made.response[:, 0].float() + made.response.sum(1), 8)
    buffer_data = JUST.prepare(policy, rollouts, 1, SEEDS)
    rows, _ = JUST.loss(policy, rollouts, buffer_data, JUST.refresh(policy, rollouts, buffer_data, 0, SEEDS))
    counted = (buffer_data.advantage != 0).sum()
    expected = -(buffer_data.advantage * exact.sum(1)).sum() / (length * counted)
    (found,) = torch.autograd.grad(rows.sum(), policy.model.table)
    assert_close(found, torch.autograd.grad(expected, policy.model.table)[0])


def test_probabilities_of_all_responses_add_up_to_one():
    """Unlike those of another surrogate, they are a distribution over responses."""
    policy = policy_of(3, 4, 1.5)
    total = left_to_right(policy.model, all_responses(policy.model)).sum(1).exp().sum()
    assert float(total.detach()) == pytest.approx(1.0, abs=1e-5)


def test_random_positions_are_unbiased():
    """Over all subsets of k positions the scaled loss is, on average, that of all positions."""
    policy = policy_of(3, 4, 1.0)
    rollouts = rollouts_of(sampled(policy, 12), torch.rand(12, generator=torch.Generator().manual_seed(1)), 4)
    buffer_data = JUST.prepare(policy, rollouts, 1, SEEDS)
    whole, _ = JUST.loss(policy, rollouts, buffer_data, JUST.refresh(policy, rollouts, buffer_data, 0, SEEDS))
    for k in (1, 2, 3):
        method = replace(JUST, positions=k)
        update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
        assert update_data.spans.first.shape == (12, k)
        assert_close(update_data.scale, torch.full((12,), 4 / k))
        found = []
        for subset in itertools.combinations(range(4), k):
            first = tensor(subset).expand(12, -1)
            some = replace(update_data, spans=Spans(first, first + 1))
            found.append(method.loss(policy, rollouts, buffer_data, some)[0])
        assert_close(torch.stack(found).mean(0), whole)


def test_tokens_after_the_end_of_text_do_not_count():
    """End of text is token 0: neither what was drawn behind it in its block, nor what was filled in."""
    policy = policy_of(2, 4, 1.0)
    made = sampled(policy, 40, eot=0, block=2)
    assert (made.nfe < 4).any()
    rollouts = rollouts_of(made, made.response.sum(1).float(), 8, eot=0)
    tokens = rollouts.loss_mask.sum(1)
    buffer_data = JUST.prepare(policy, rollouts, 1, SEEDS)
    rows, _ = JUST.loss(policy, rollouts, buffer_data, JUST.refresh(policy, rollouts, buffer_data, 0, SEEDS))
    assert_close(rows, -buffer_data.advantage * tokens * buffer_data.weight)
    # Short responses are scored whole, without a scale.
    update_data = replace(JUST, positions=3).refresh(policy, rollouts, buffer_data, 0, SEEDS)
    assert_close(update_data.scale, (tokens / 3).clamp(min=1))
    assert torch.equal((update_data.spans.end > update_data.spans.first).sum(1), tokens.long().clamp(max=3))


def test_another_order_of_rollouts_is_refused():
    (line,) = JUST.check(SimpleNamespace(rollout_sampler=RandomOrder()))
    assert line[0] == "sampler"
    assert "rule: random_order; choose a sampler with rule: left_to_right" in line[1]
    assert not list(JUST.check(SimpleNamespace(rollout_sampler=LeftToRight())))


def test_plan_counts_a_pass_for_each_position():
    assert (JUST.passes(1, 32).update, JUST.passes(1, 32).prepare) == (32, 0)
    assert replace(JUST, positions=8).passes(1, 32).update == 8
    assert replace(JUST, positions=99).passes(1, 32).update == 32
