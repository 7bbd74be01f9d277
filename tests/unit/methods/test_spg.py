"""SPG's loss by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from helpers.by_hand import even_policy, pair_of_responses, say
from helpers.every_method import SEEDS, SPG
from unmask.common.seeding import Seeds
from unmask.rl.bounds import draw_block_masks
from unmask.training.tabular import sample

MASKED = tensor([[[True, True], [True, False]]] * 2)  # both tokens, and the first


def moved(rollouts=None, **changes):
    """Loss rows and metrics where the policy says 0 with probability 3/4, on these two copies."""
    policy, rollouts, method = even_policy(), rollouts or pair_of_responses(), replace(SPG, **changes)
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    update_data = replace(method.refresh(policy, rollouts, buffer_data, 0, SEEDS), masked=MASKED)
    say(policy.model, 0.75)
    return method.loss(policy, rollouts, buffer_data, update_data)


ZERO, ONE = math.log(0.75), math.log(0.25)
LOWER = [((ZERO + ONE) / 2 + ZERO) / 2, ONE]
# Of 11: t̂ is 1 and ½, so P_1 = ½ (1 + 2) · ¼^β and P_2 = ½ · ¼^β.
UPPER = (math.log(1.5) + math.log(0.5)) / 2 / 1.5 + ONE


@pytest.mark.parametrize(
    ("changes", "negative"),
    [({}, (UPPER + ONE) / 2), ({"mix": 1.0}, UPPER), ({"mix": 0.0}, ONE), ({"negatives": False}, 0.0)],
)
def test_spg_by_hand(changes, negative):
    """Advantages ±½, equal lengths."""
    rows, metrics = moved(**changes)
    assert_close(rows, tensor([-0.5 * LOWER[0], 0.5 * negative]) / 2)
    assert_close(metrics["lower_bound"], tensor(LOWER))


def test_responses_weigh_by_their_tokens_up_to_the_end():
    """E is one token of 01 and two of 11; the token after the end is masked and not scored."""
    rollouts = replace(pair_of_responses(), loss_mask=tensor([[1.0, 0.0], [1.0, 1.0]]))
    rows, _ = moved(rollouts, mix=0.0)
    assert_close(rows, tensor([-0.5 * ZERO / 3, 0.5 * ONE * 2 / 3]))
    rows, _ = moved(rollouts, mix=0.0, micro_batch_rows=1)  # each micro-batch has a mean of its own
    assert_close(rows, tensor([-0.5 * ZERO / 2, 0.5 * ONE / 2]))


def test_a_response_of_the_mean_reward_has_no_gradient():
    rows, _ = moved(replace(pair_of_responses(), reward=tensor([0.3, 0.3])))
    assert torch.equal(rows.detach(), torch.zeros(2))


def test_copies_of_an_update_are_blockwise_or_uniform_and_new_in_each():
    policy = even_policy()
    rollouts = sample(policy.model, torch.rand(4), 3, 4, Seeds((1,)))
    buffer_data = SPG.prepare(policy, rollouts, 2, SEEDS)
    first, second = (SPG.refresh(policy, rollouts, buffer_data, u, SEEDS.child(u)) for u in range(2))
    streams = rollouts.streams(SEEDS.child(0), "masks")
    assert torch.equal(first.masked, draw_block_masks(2, 2, rollouts.loss_mask, 0.15, streams))
    assert not torch.equal(first.masked, second.masked)
    assert first.drop.shape == (12, 2, 1)
    uniform = replace(SPG, masks="uniform").refresh(policy, rollouts, buffer_data, 0, SEEDS.child(0))
    assert torch.equal(uniform.masked, first.masked)  # a block of two tokens is the whole response
    blocks = replace(SPG, block=1).refresh(policy, rollouts, buffer_data, 0, SEEDS.child(0))
    assert not torch.equal(blocks.masked, first.masked)


def test_masked_prompt_tokens_are_masked_in_the_passes_of_their_copies(policy):
    """The loss of a real model changes with the prompt tokens that a copy masks."""
    prompt, mask = policy.pad([[10, 11, 12, 13]] * 2)
    rollouts = replace(pair_of_responses(), prompt=prompt, prompt_mask=mask, response=tensor([[14, 15], [15, 15]]))
    buffer_data = SPG.prepare(policy, rollouts, 1, SEEDS)
    update_data = SPG.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    losses = []
    for drop in (torch.zeros(2, 2, 4), torch.ones(2, 2, 4)):
        changed = replace(update_data, masked=MASKED, drop=drop.bool())
        losses.append(SPG.loss(policy, rollouts, buffer_data, changed)[0].detach())
    assert not torch.allclose(*losses)


@pytest.mark.parametrize(("micro_steps", "sets"), [(1, 4), (2, 2), (4, 1), (3, 4)])
def test_masks_that_are_counted_by_micro_step_repeat(micro_steps, sets):
    """Micro-step a of update u has the draw (s·u + a) mod 4 of its buffer: with s = 4 all updates have the same."""
    policy = even_policy()
    rollouts = sample(policy.model, torch.rand(4), 3, 4, Seeds((1,)))
    method = replace(SPG, mask_index="micro_step", micro_steps=micro_steps)
    buffer_data = method.prepare(policy, rollouts, 4, SEEDS)
    draws = [method.refresh(policy, rollouts, buffer_data, u, SEEDS.child(u)) for u in range(4)]
    assert len({(draw.masked.numpy().tobytes(), draw.drop.numpy().tobytes()) for draw in draws}) == sets
    assert torch.equal(draws[0].masked, draws[sets % 4].masked)
    assert draws[0].masked.shape == (12, 2, 2)
