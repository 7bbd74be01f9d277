"""Gradients of DiFFPO's losses, worked out by hand on a table of logits.

Two tokens, two positions. The old policy is even; the new one says token 0 with probability 3/4 wherever it looks, so
the ratio of a 0 is 1.5 and that of a 1 is 0.5. A state of the table is a number with base 3, the first position counts
ones, and [MASK] is 2. So 8 is fully masked, 6 is `0_` and 5 is `_1`.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn, tensor
from torch.testing import assert_close

from helpers.every_method import DIFFPO, SEEDS
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.rl.rollouts import Rollouts

MASKED, AFTER_0, AFTER_1 = 8, 6, 5
SAYS_0 = [0.25, -0.25, 0.0]  # ∂ log π(0) / ∂ logits of token 0, token 1 and [MASK]
SAYS_1 = [-0.75, 0.75, 0.0]


@pytest.fixture
def even():
    """A policy that is even everywhere, as is its reference."""
    policy = Policy(TabularModel(2, 2, 0.0, torch.Generator()), tokenizer=None)
    policy.set_reference()
    return policy


@pytest.fixture
def pair():
    """The responses 01, first position first, and 11, last position first; they earn 1 and 0."""
    prompt = torch.zeros((2, 1), dtype=torch.long)
    return Rollouts(
        prompt=prompt, prompt_mask=prompt == 0, response=tensor([[0, 1], [1, 1]]), unmask_step=tensor([[0, 1], [1, 0]]),
        log_prob_t1=tensor([[0.5, 0.25], [1.0, 0.5]]).log(), nfe=tensor([2, 2]), reward=tensor([1.0, 0.0]),
        correct=tensor([1.0, 0.0]), loss_mask=torch.ones((2, 2)), group_size=2, buffer_rows=2, micro_batch_size=2,
    )  # fmt: skip


def gradient(method, policy, rollouts, tau=(1, 1)):
    """∂ loss / ∂ table after the even policy has become π(0) = 3/4."""
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    update_data = replace(method.refresh(policy, rollouts, buffer_data, 0, SEEDS), masks={"tau": tensor(tau)})
    policy.model.table.data[..., 0] = math.log(3)
    rows, _ = method.loss(policy, rollouts, buffer_data, update_data)
    return torch.autograd.grad(rows.sum(), policy.model.table)[0]


def by_hand(*terms):
    """A gradient that is zero but at (state, position, factor, ∂ log π / ∂ logits)."""
    found = torch.zeros((9, 2, 3))
    for state, position, factor, direction in terms:
        found[state, position] += factor * tensor(direction)
    return found


# −w A ρ / 4 for each token, where nothing is clipped; the weights w are 1, min(2, C), 1/2 and 1.
def factors(clamp):
    return -0.5 * 1.5 / 4, -clamp * 0.5 * 0.5 / 4, 0.5 * 0.5 * 0.5 / 4, 0.5 * 0.5 / 4


@pytest.mark.parametrize("clamp", [1.5, 2.0, 9.0])
def test_each_token_is_pushed_where_its_stage_scores_it(even, pair, clamp):
    """At τ = 1 the token of step 0 is scored with nothing given and the other one after it."""
    found = gradient(replace(DIFFPO, clip=0.6, clamp=clamp), even, pair)
    one, two, three, four = factors(min(clamp, 2.0))
    expected = by_hand(
        (MASKED, 0, one, SAYS_0), (AFTER_0, 1, two, SAYS_1), (AFTER_1, 0, three, SAYS_1), (MASKED, 1, four, SAYS_1)
    )
    assert_close(found, expected)


def test_the_stage_is_that_of_the_row(even, pair):
    """At τ = 0 all tokens of a response are scored with nothing given: the first response here, not the second."""
    found = gradient(replace(DIFFPO, clip=0.6), even, pair, tau=(0, 1))
    one, two, three, four = factors(1.5)
    expected = by_hand(
        (MASKED, 0, one, SAYS_0), (MASKED, 1, two, SAYS_1), (AFTER_1, 0, three, SAYS_1), (MASKED, 1, four, SAYS_1)
    )
    assert_close(found, expected)


def test_the_mean_field_scores_all_tokens_with_nothing_given(even, pair):
    found = gradient(replace(DIFFPO, clip=0.6, surrogate="mean_field"), even, pair)
    one, two, three, four = factors(1.5)
    expected = by_hand(
        (MASKED, 0, one, SAYS_0), (MASKED, 1, two, SAYS_1), (MASKED, 0, three, SAYS_1), (MASKED, 1, four, SAYS_1)
    )
    assert_close(found, expected)


def test_only_tokens_that_are_not_clipped_are_pushed(even, pair):
    """ε = 0.2: 1.5 with A > 0 and 0.5 with A < 0 are clipped. What is left is the 1 of the better response."""
    found = gradient(DIFFPO, even, pair)
    assert_close(found, by_hand((AFTER_0, 1, factors(1.5)[1], SAYS_1)))


def test_the_penalty_is_not_weighted(even, pair):
    """∂ k3 / ∂ log π = 1 − π_ref/π, with π_ref = 1/2: 1/3 for a 0 and −1 for a 1; β / 4 of it for each token."""
    with_penalty = gradient(replace(DIFFPO, clip=0.6, kl_penalty=0.3), even, pair)
    even.model.table.data.zero_()
    plain = gradient(replace(DIFFPO, clip=0.6), even, pair)
    zero, one = 0.3 / 4 / 3, -0.3 / 4
    expected = by_hand(
        (MASKED, 0, zero, SAYS_0), (AFTER_0, 1, one, SAYS_1), (AFTER_1, 0, one, SAYS_1), (MASKED, 1, one, SAYS_1)
    )
    assert_close(with_penalty - plain, expected)


# --- the threshold ----------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """A mean of the threshold's logit that is the same for all rows."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))

    def forward(self, state):
        return self.mean.expand(state.shape[:-1])

    def gamma(self, logit):
        return 2 * torch.sigmoid(logit)


@pytest.mark.parametrize(("buffer_rows", "clip"), [(2, 0.2), (8, 0.2), (2, 0.05)])
def test_the_loss_of_the_threshold_by_hand(even, pair, buffer_rows, clip):
    """z = ±0.3 with σ = ½; the mean moves from 0 to 0.05. One pass of two: the right answer earns ½ (1 − ½) more."""
    even.head = Head()
    pair = replace(
        pair, gamma_logit=tensor([[0.3], [-0.3]]), gamma_input=torch.zeros((2, 1, 4)), nfe=tensor([1, 1]),
        buffer_rows=buffer_rows,
    )  # fmt: skip
    method = replace(DIFFPO, learn="sampler", clip=clip)
    buffer_data = method.prepare(even, pair, 1, SEEDS)
    assert_close(buffer_data.advantage, tensor([0.625, -0.625]))
    even.head.mean.data += 0.05
    rows, metrics = method.loss(even, pair, buffer_data, method.refresh(even, pair, buffer_data, 0, SEEDS))
    up, down = math.exp((0.3**2 - 0.25**2) / 0.5), math.exp((0.3**2 - 0.35**2) / 0.5)  # 1.057 and 0.937
    clipped = clip < 0.057
    expected = [-min(up, 1 + clip) * 0.625 / buffer_rows, max(down, 1 - clip) * 0.625 / buffer_rows]
    assert_close(rows, tensor(expected))
    assert metrics["threshold_clipped"].tolist() == [clipped, clipped]
    (found,) = torch.autograd.grad(rows.sum(), even.head.mean)
    slope = [-up * 0.625 * 0.25 / 0.25, down * 0.625 * -0.35 / 0.25]  # A ρ (z − μ)/σ²
    assert float(found) == pytest.approx(0.0 if clipped else sum(slope) / buffer_rows, abs=1e-6)
