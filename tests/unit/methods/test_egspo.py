"""EGSPO and the methods on merged segments, against values by hand and the enumerated laboratory."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from helpers.every_method import DIFFPO, DIFFU, EGSPO, MERGE, SEEDS
from unmask.common.seeding import Seeds
from unmask.config.schema.samplers import TopK
from unmask.methods.egspo import Egspo
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel, conditional
from unmask.rl.generation import roll_out
from unmask.rl.likelihoods import trajectory
from unmask.rl.losses import ranked_advantages
from unmask.rl.rollouts import Rollouts, RolloutSettings
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import total_reward
from unmask.training.tabular import sample

LN2 = math.log(2)


def policy_of(vocabulary, length, scale, seed=0):
    policy = Policy(TabularModel(vocabulary, length, scale, torch.Generator().manual_seed(seed)), tokenizer=None)
    policy.set_reference()
    return policy


def tensors(response, step, nfe, reward, entropy, group_size=2):
    prompt = torch.zeros((len(response), 1), dtype=torch.long)
    reward = tensor(reward)
    return Rollouts(
        prompt, prompt == 0, tensor(response), tensor(step), torch.full((len(response), len(response[0])), -LN2),
        tensor(nfe), reward=reward, correct=reward, loss_mask=torch.ones((len(response), len(response[0]))),
        group_size=group_size, buffer_rows=len(response), micro_batch_size=8, entropy=tensor(entropy),
    )  # fmt: skip


@pytest.fixture
def even():
    return policy_of(2, 3, 0.0)


@pytest.fixture
def pair():
    """011 in two steps, of which the second commits two tokens, and 111 in three; drawn from the even policy."""
    return tensors(
        [[0, 1, 1], [1, 1, 1]], [[0, 1, 1], [2, 0, 1]], [2, 3], [1.0, 0.0], [[0.1, 0.4, 0.4], [0.3, 0.1, 0.2]]
    )


def moved(method, policy, rollouts, update=0):
    """Loss rows and metrics after the even policy has become π(0) = 3/4."""
    buffer_data = method.prepare(policy, rollouts, 2, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, update, SEEDS)
    policy.model.table.data[..., 0] = math.log(3)
    return method.loss(policy, rollouts, buffer_data, update_data)


def k3(new, old):
    delta = math.log(old) - math.log(new)
    return math.exp(delta) - delta - 1


# --- single steps -----------------------------------------------------------------------------------------------------


def test_steps_by_hand(even, pair):
    """A step has one ratio: (3/2), and (1/2)² of two tokens, halved; clipped to [0.8, 1.6]. There are four steps.

    Ranks: the second step of 011 comes first, then its first; of 111 the steps 2, 1.
    """
    rows, metrics = moved(replace(EGSPO, states=2, clip_above=0.6), even, pair)
    one = -(0.25 * 0.5 / 2 + 1.5 * 0.5) / 4
    other = (0.8 * 0.5 + 0.8 * 0.5) / 4
    assert_close(rows, tensor([one, other]))
    assert_close(metrics["clipped"], tensor([0.0, 1.0]))


def test_the_ratio_is_clipped_above_at_its_own_bound(even, pair):
    rows, metrics = moved(replace(EGSPO, states=2, clip_above=0.3), even, pair)
    assert_close(rows[0], tensor(-(0.25 * 0.5 / 2 + 1.3 * 0.5) / 4))
    assert_close(metrics["clipped"], tensor([0.5, 1.0]))


def test_the_penalty_is_that_of_the_step(even, pair):
    plain, _ = moved(replace(EGSPO, states=2), even, pair)
    even.model.table.data.zero_()
    rows, _ = moved(replace(EGSPO, states=2, kl_penalty=0.3), even, pair)
    expected = tensor([k3(1 / 16, 1 / 4) / 2 + k3(3 / 4, 1 / 2), 2 * k3(1 / 4, 1 / 2)]) / 4
    assert_close(rows - plain, 0.3 * expected)


def test_updates_take_the_states_in_turn(even, pair):
    """One of three ranks in each of two updates; the third rank is missing in 011, so that it has no loss."""
    method = replace(EGSPO, states=3, states_per_update=1)
    buffer_data = method.prepare(even, pair, 4, SEEDS)
    seen = [method.refresh(even, pair, buffer_data, update, SEEDS).spans for update in range(4)]
    assert [spans.first[1].tolist() for spans in seen] == [[2], [1], [0], [2]]
    assert (seen[2].end - seen[2].first)[0].tolist() == [0]
    assert buffer_data.advantage[:, 2].tolist() == [0.0, 0.0]
    rows, _ = moved(method, even, pair, update=1)
    assert_close(rows, tensor([-1.5 * 0.5, 0.8 * 0.5]) / 2)


@pytest.mark.parametrize(
    ("stepwise", "expected"),
    [
        (0.0, [[0.5, 0.5], [-0.5, -0.5]]),
        (1.0, [[0.5, 0.375], [-0.5, -0.375]]),  # R = (2r − r̂)/2: 1/2, 3/4 and −1/2, 0
        (3.0, [[0.5, 0.3125], [-0.5, -0.3125]]),
    ],
)
def test_returns_by_hand(even, pair, stepwise, expected):
    pair.completion_reward = tensor([[1.0, 0.5], [1.0, 0.0]])
    method = replace(EGSPO, states=2, stepwise=stepwise)
    assert_close(method.prepare(even, pair, 1, SEEDS).advantage, tensor(expected))


def test_the_baseline_is_over_the_steps_that_exist():
    returns = tensor([[1.0, 2.0], [3.0, 9.0], [5.0, 4.0], [7.0, 0.0]])
    exists = tensor([[True, True], [True, False], [True, True], [True, True]])
    expected = tensor([[-1.0, 0.0], [1.0, 0.0], [-1.0, 2.0], [1.0, -2.0]])
    assert_close(ranked_advantages(returns, exists, 2), expected)


def test_without_completions_the_stepwise_return_is_an_error(even, pair):
    with pytest.raises(ValueError, match="stepwise > 0 needs rollouts"):
        replace(EGSPO, stepwise=0.5).prepare(even, pair, 1, SEEDS)


# --- greedy completions -----------------------------------------------------------------------------------------------


def test_a_completion_is_the_most_probable_token_at_each_mask(make_policy, sudoku):
    """Each reward is that of the completion built by hand, in one pass, at the state of the step."""
    policy, examples = make_policy(), sudoku.splits()["train"][:2]
    decoding = DecodingSettings(16, 8, TopK(tokens_per_step=2, score="confidence"), temperature=1.0)
    settings = RolloutSettings(group_size=2, decoding=decoding, micro_batch_size=3, dropout=False)
    method = replace(EGSPO, states=4, stepwise=0.5)
    rollouts = method.collect(policy, sudoku, examples, settings, SEEDS)
    assert rollouts.completion_reward.shape == (4, 4)
    spans = method._steps(rollouts, SEEDS)
    mask_id = policy.model.config.mask_token_id
    for row, k in itertools.product(range(4), range(4)):
        seen = rollouts.unmask_step[row] < spans.first[row, k]
        noisy = torch.where(seen, rollouts.response[row], mask_id)
        prompt = rollouts.prompt[row][rollouts.prompt_mask[row]]
        logits = policy.model.lm_head(policy.model.hidden_states(torch.cat((prompt, noisy))[None]))[0, len(prompt) :]
        logits[:, mask_id] = -torch.inf
        completed = torch.where(seen, rollouts.response[row], logits.argmax(1))
        (text,) = policy.judged(policy.texts(completed[None]))
        assert float(rollouts.completion_reward[row, k]) == pytest.approx(
            total_reward(sudoku, text, examples[row // 2])
        )
    plain = replace(EGSPO, states=4).collect(policy, sudoku, examples, settings, SEEDS)
    assert plain.completion_reward is None
    assert torch.equal(plain.response, rollouts.response)


def test_a_completion_at_the_last_step_of_one_token_a_greedy_rollout_is_its_reward(make_policy, sudoku):
    """At temperature 0 the last step commits its most probable tokens, so that nothing is gained: R = r."""
    policy, examples = make_policy(), sudoku.splits()["train"][:3]
    decoding = DecodingSettings(8, 8, TopK(tokens_per_step=2, score="confidence"), temperature=0.0)
    settings = RolloutSettings(group_size=1, decoding=decoding, micro_batch_size=64, dropout=False)
    rollouts = roll_out(policy, sudoku, examples, settings, SEEDS)
    method = replace(EGSPO, states=4, choice="uniform", stepwise=0.5)
    collected = method.collect(policy, sudoku, examples, settings, SEEDS)
    assert torch.equal(collected.response, rollouts.response)
    assert_close(collected.completion_reward[:, -1], rollouts.reward)


# --- merged segments --------------------------------------------------------------------------------------------------


def test_segments_by_hand(even, pair):
    """A ratio for each token: 3/2 of a 0, 1/2 of a 1, clipped to [0.8, 1.2]; a mean over six tokens."""
    rows, metrics = moved(replace(MERGE, clip_above=0.2), even, pair)
    assert_close(rows, tensor([-(1.2 + 0.5 + 0.5) * 0.5, 3 * 0.8 * 0.5]) / 6)
    assert_close(metrics["clipped"], tensor([1 / 3, 1.0]))


def test_segments_of_equal_weight_by_hand(even, pair):
    """Two segments each: {0}, {1, 1} and {1, 1}, {1}; the mean over a segment's tokens, over four segments."""
    rows, _ = moved(replace(MERGE, average="states"), even, pair)
    assert_close(rows, tensor([-(1.2 + (0.5 + 0.5) / 2) * 0.5, (0.8 + 0.8) * 0.5]) / 4)


def test_only_tokens_up_to_the_end_of_text_count(even, pair):
    pair.loss_mask = tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    rows, _ = moved(MERGE, even, pair)
    assert_close(rows, tensor([-(1.2 + 0.5) * 0.5, 3 * 0.8 * 0.5]) / 5)


def test_the_divergence_may_be_from_the_sampler(even, pair):
    """TraceRL's penalty: the policy that sampled is π(0) = 1/2, the reference is not."""
    even.snapshot["table"] = even.snapshot["table"] + torch.randn(even.model.table.shape)
    plain, _ = moved(MERGE, even, pair)
    even.model.table.data.zero_()
    rows, _ = moved(replace(MERGE, kl_penalty=0.3, kl_to="sampler"), even, pair)
    zero, one = k3(3 / 4, 1 / 2), k3(1 / 4, 1 / 2)
    assert_close(rows - plain, 0.3 * tensor([zero + 2 * one, 3 * one]) / 6)


def test_a_normalised_advantage_is_divided_by_the_deviation(even, pair):
    plain = MERGE.prepare(even, pair, 1, SEEDS).advantage
    found = replace(MERGE, normalise_advantage=True).prepare(even, pair, 1, SEEDS).advantage
    assert_close(found, plain / (math.sqrt(0.5) + 1e-4))


def gradient(method, policy, rollouts, updates=2, update=1):
    noise = torch.Generator().manual_seed(7)
    before = policy.model.table.data.clone()
    buffer_data = method.prepare(policy, rollouts, updates, SEEDS)
    policy.model.table.data += 0.3 * torch.randn(before.shape, generator=noise)
    update_data = method.refresh(policy, rollouts, buffer_data, update, SEEDS)
    rows, _ = method.loss(policy, rollouts, buffer_data, update_data)
    (found,) = torch.autograd.grad(rows.sum(), policy.model.table)
    policy.model.table.data = before
    return rows.detach(), found


@pytest.mark.parametrize("kl_penalty", [0.0, 0.1])
def test_one_segment_is_diffu_grpo_without_prompt_mask(kl_penalty):
    policy = policy_of(3, 4, 1.0)
    rollouts = sample(policy.model, torch.rand(81), 3, 4, Seeds((1,)))
    ours = replace(MERGE, states=1, kl_penalty=kl_penalty)
    theirs = replace(DIFFU, prompt_mask=0.0, kl_penalty=kl_penalty)
    for found, expected in zip(gradient(ours, policy, rollouts), gradient(theirs, policy, rollouts), strict=True):
        assert_close(found, expected)


def test_two_segments_with_a_random_cut_are_diffpo_without_importance_weights():
    """With the same draws of τ, in each update."""
    policy = policy_of(3, 4, 1.0)
    rollouts = sample(policy.model, torch.rand(81), 3, 4, Seeds((1,)))
    ours, theirs = replace(MERGE, cut="random"), replace(DIFFPO, importance_sampling=False)
    for update in (0, 1):
        found, expected = (gradient(method, policy, rollouts, update=update) for method in (ours, theirs))
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)


@pytest.mark.parametrize("length", [1, 2, 4, 6])
def test_a_segment_for_every_step_has_the_gradient_of_the_enumerated_trajectory(length):
    """T = 1 up to L = 6: at the first update −Σ A ∇ log p(o; σ), averaged over tokens, for the order σ of each row."""
    policy = policy_of(2, length, 1.0, seed=3)
    rollouts = sample(policy.model, torch.rand(2**length, generator=torch.Generator().manual_seed(1)), 4, 6, SEEDS)
    method = replace(MERGE, states=0)
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    rows, _ = method.loss(policy, rollouts, buffer_data, method.refresh(policy, rollouts, buffer_data, 0, SEEDS))
    (found,) = torch.autograd.grad(rows.sum(), policy.model.table)
    total = torch.zeros(())
    for row in range(24):
        response, step = rollouts.response[row : row + 1], rollouts.unmask_step[row]
        for position in range(length):
            score = conditional(policy.model, response, step < step[position])[0, position]
            total = total - buffer_data.advantage[row, 0] * score / (24 * length)
    assert_close(found, torch.autograd.grad(total, policy.model.table)[0])


def test_all_steps_have_the_gradient_of_the_trajectory():
    """With K ≥ T the steps' ratios are 1 at first, and their gradients add up to that of the whole trajectory."""
    policy = policy_of(3, 4, 1.0)
    rollouts = sample(policy.model, torch.rand(81), 3, 4, Seeds((1,)))
    method = replace(EGSPO, states=4)
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    rows, _ = method.loss(policy, rollouts, buffer_data, method.refresh(policy, rollouts, buffer_data, 0, SEEDS))
    everything = torch.ones_like(rollouts.unmask_step, dtype=torch.bool)
    exact = trajectory(policy.model, *rollouts.inputs, rollouts.unmask_step, everything).sum(1)
    expected = -(buffer_data.advantage[:, 0] * exact).sum() / 48
    assert_close(
        torch.autograd.grad(rows.sum(), policy.model.table)[0], torch.autograd.grad(expected, policy.model.table)[0]
    )


# --- settings ---------------------------------------------------------------------------------------------------------


def test_unequal_shares_and_too_many_steps_are_refused():
    run = SimpleNamespace(training=SimpleNamespace(generation_length=6))
    assert [key for key, _ in Egspo(states=4, states_per_update=3).check(run)] == ["states_per_update"]
    assert [key for key, _ in Egspo(states=0, states_per_update=2).check(run)] == ["states_per_update"]
    assert [key for key, _ in Egspo(states=8, states_per_update=2).check(run)] == ["states"]
    assert not list(Egspo(states=6, states_per_update=2).check(run))


@pytest.mark.parametrize(
    ("method", "update", "prepare"),
    [
        (Egspo(), 2, 8),  # K = 8 by the reference
        (Egspo(stepwise=0.5), 2, 16),  # and their completions
        (replace(MERGE, states=16), 16, 32),  # by old and reference policy
        (replace(MERGE, states=16, cut="random"), 16, 4 * 32),  # in each update
        (replace(MERGE, states=0), 128, 256),
    ],
)
def test_plan_counts_the_passes(method, update, prepare):
    passes = method.passes(4, 128)
    assert (passes.update, passes.prepare, passes.apart) == (update, prepare, True)
