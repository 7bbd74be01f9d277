"""The loss of each method on small tensors, against values worked out by hand.

By hand: a tabular model that says token 0 with probability q wherever it looks, whatever it has seen.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from helpers.by_hand import LN2, even_policy, pair_of_responses, say
from helpers.enumeration import exact_elbo
from helpers.every_method import COUPLED, DIFFPO, DIFFU, DMPO, LOSSES, RL, SEEDS
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.rl.buffer_data import NoData
from unmask.rl.likelihoods import Copies
from unmask.training.tabular import sample


@pytest.fixture
def even():
    """A policy over two tokens and two positions, even everywhere, as is its reference."""
    return even_policy()


@pytest.fixture
def pair():
    """The responses 01 and 11 with rewards 1 and 0, drawn one token a step from the even policy."""
    return pair_of_responses()


# --- DMPO -------------------------------------------------------------------------------------------------------------


BOTH, FIRST = [True, True], [True, False]


@pytest.mark.parametrize(
    ("changes", "real_weight"),
    [
        ({}, [1.5, 0.5]),  # r/α = (ln 3, 0), so w = 2 · (3/4, 1/4)
        ({"baseline": "group"}, [0.5, -0.5]),
        ({"baseline": "individual"}, [1.0, -1.0]),  # w_base = 2 · (1/4, 3/4)
        ({"baseline": "model"}, [0.5, -0.5]),  # before any update
        ({"baseline": "group", "baseline_strength": 0.5}, [1.0, 0.0]),
        ({"coefficient": 0.5}, [2 * math.sqrt(3) / (math.sqrt(3) + 1), 2 / (math.sqrt(3) + 1)]),
        ({"alpha": 0.0, "eta": math.log(7)}, [1.75, 0.25]),
        ({"loss_kind": "reward_only"}, [0.5, -0.5]),
        ({"ess_target": 0.9}, [4 / 3, 2 / 3]),  # 1 / (2 (4/9 + 1/9)) = 0.9
        ({"ess_target": 0.9, "baseline": "individual"}, [2 / 3, -2 / 3]),  # ℓ⁻ is shrunk as ℓ is: w_base = (2/3, 4/3)
    ],
)
def test_wdce_by_hand(even, pair, changes, real_weight):
    """Copies 1: 01 and 11 masked whole, copies 2: the first token alone. Scored where π(0) = 3/4."""
    method = replace(DMPO, **changes)
    buffer_data = method.prepare(even, pair, 1, SEEDS)
    update_data = method.refresh(even, pair, buffer_data, 0, SEEDS)
    update_data = replace(update_data, copies=Copies(tensor([[BOTH, FIRST]] * 2), tensor([[1 / 2, 1.0]] * 2)))
    say(even.model, 0.75)
    zero, one = -math.log(0.75), -math.log(0.25)
    copies = [((zero + one) / 2 + zero) / 2, ((one + one) / 2 + one) / 2]
    rows, _ = method.loss(even, pair, buffer_data, update_data)
    assert_close(rows, tensor([w * c / 2 for w, c in zip(real_weight, copies, strict=True)]), atol=1e-4, rtol=1e-4)


def test_copies_of_the_loss_weigh_one_over_m(even, pair):
    """Antithetic copies draw m from {0..L}, so they weigh (L + 1)/(mL): 3/4 and 3/2 for L = 2."""
    for masks, both, one in (("uniform", 3 / 4, 3 / 2), ("bernoulli", 1 / 2, 1.0)):
        method = replace(DMPO, masks=masks, copies=64)
        buffer_data = method.prepare(even, pair, 1, SEEDS)
        copies = method.refresh(even, pair, buffer_data, 0, SEEDS).copies
        assert_close(copies.weight, tensor([0.0, one, both])[copies.masked.sum(-1)])
        assert len(copies.masked.sum(-1).unique()) == 3


def kl_of(buffer_data):
    return buffer_data.likelihoods.log_old - buffer_data.likelihoods.log_reference


@pytest.mark.parametrize("likelihood", ["elbo", "trajectory"])
def test_weights_hold_the_log_ratio_of_reference_and_old(even, pair, likelihood):
    """Reference even, old policy π(0) = 3/4: log p_ref − log p_old of 01 is ln(4/3), of 11 it is ln 4."""
    say(even.model, 0.75)
    pair.log_prob_t1 = tensor([[0.75, 0.25], [0.25, 0.25]]).log()
    method = replace(DMPO, likelihood=likelihood, elbo_copies=400)
    buffer_data = method.prepare(even, pair, 1, SEEDS)
    tilt = tensor([3 * 4 / 3, 4.0])
    tolerance = 0.15 if likelihood == "elbo" else 1e-5
    assert_close(buffer_data.weight, 2 * tilt / tilt.sum(), atol=tolerance, rtol=0)
    assert_close(kl_of(buffer_data), tensor([math.log(3 / 4), -math.log(4)]), atol=tolerance, rtol=0)


@pytest.mark.parametrize("likelihood", ["elbo", "trajectory"])
def test_the_model_baseline_follows_the_policy_on_the_masks_of_the_old_one(even, pair, likelihood):
    method = replace(DMPO, baseline="model", likelihood=likelihood)
    buffer_data = method.prepare(even, pair, 2, SEEDS)
    before = method.refresh(even, pair, buffer_data, 0, SEEDS.child(0)).weight_real
    assert_close(before, buffer_data.weight - 1)  # exact: the policy has not moved and the masks are the same
    say(even.model, 0.75)
    after = method.refresh(even, pair, buffer_data, 1, SEEDS.child(1)).weight_real
    assert after[0] < before[0]  # 01 has become likelier: its baseline grows
    if likelihood == "trajectory":
        assert_close(after, buffer_data.weight - tensor([1.5, 0.5]))  # (3/4 · 1/4) : (1/4 · 1/4) = 3 : 1


def test_trajectory_likelihoods_count_every_drawn_token_also_behind_the_end(even, pair):
    """Tokens of the block that holds the end of text were drawn with the others; tokens filled in later were not."""
    pair.loss_mask = tensor([[1.0, 0.0], [1.0, 0.0]])
    say(even.model, 0.75)
    pair.log_prob_t1 = tensor([[0.75, 0.25], [0.25, 0.25]]).log()
    method = replace(DMPO, likelihood="trajectory")
    assert_close(kl_of(method.prepare(even, pair, 1, SEEDS)), tensor([math.log(3 / 4), -math.log(4)]))
    filled = replace(pair, unmask_step=tensor([[0, 1], [0, 1]]), nfe=tensor([1, 1]))
    filled.log_prob_t1[:, 1] = 0.0
    assert_close(kl_of(method.prepare(even, filled, 1, SEEDS)), tensor([math.log(3 / 2), -math.log(2)]))


def test_alpha_zero_and_reward_only_need_no_likelihoods(even, pair, monkeypatch):
    monkeypatch.setattr(even.model, "hidden_states", None)
    for method in (replace(DMPO, alpha=0.0), replace(DMPO, loss_kind="reward_only")):
        method.prepare(even, pair, 1, SEEDS)


def test_wddo_by_hand(even, pair):
    method = replace(DMPO, loss_kind="wddo", wddo_beta=2.0, wddo_negative=0.5)
    buffer_data = method.prepare(even, pair, 2, SEEDS)
    assert buffer_data.wddo_copies.masked.shape == (2, 4, 4, 2)
    update_data = method.refresh(even, pair, buffer_data, 1, SEEDS)
    assert_close(update_data.copies.masked, buffer_data.wddo_copies.masked[:, 2:])
    assert not torch.equal(update_data.copies.masked[:, 0], update_data.copies.masked[:, 1])
    copies = Copies(tensor([[[BOTH], [FIRST]]] * 2), tensor([[[1.0], [2.0]]] * 2))
    update_data = replace(update_data, copies=copies, old_elbo=torch.full((2, 2), -2 * LN2))
    say(even.model, 0.75)
    up = [math.log(0.75 * 0.25 * 4), math.log(0.25 * 0.25 * 4)]
    down = [2 * math.log(0.75 * 2), 2 * math.log(0.25 * 2)]
    log_sigmoid = lambda x: -math.log(1 + math.exp(-x))  # noqa: E731
    expected = [
        -(w * log_sigmoid(2 * u) + 0.5 * log_sigmoid(-2 * d)) / 2 for w, u, d in zip([1.5, 0.5], up, down, strict=True)
    ]
    assert_close(method.loss(even, pair, buffer_data, update_data)[0], tensor(expected))


def test_dmpo_logs_the_largest_weight_and_the_effective_sample_size(even, pair):
    method = replace(DMPO, loss_kind="wdce")
    buffer_data = method.prepare(even, pair, 1, SEEDS)
    _, logged = method.loss(even, pair, buffer_data, method.refresh(even, pair, buffer_data, 0, SEEDS))
    assert_close(logged["largest_weight"], tensor([0.75, 0.75]))
    assert_close(logged["effective_sample_size"], tensor([0.8, 0.8]))
    shares = {name: rows.tolist() for name, rows in logged.items() if name.startswith("weight_from_") and rows.any()}
    assert shares == {"weight_from_0.25": [0, 1], "weight_from_1": [1, 0]}  # 1.5 and 0.5


# --- the GRPO family --------------------------------------------------------------------------------------------------


def moved(method, policy, rollouts, updates=1, **changes):
    """Loss rows and metrics after the even policy has become π(0) = 3/4."""
    buffer_data = method.prepare(policy, rollouts, updates, SEEDS)
    update_data = replace(method.refresh(policy, rollouts, buffer_data, 0, SEEDS), **changes)
    say(policy.model, 0.75)
    return method.loss(policy, rollouts, buffer_data, update_data)


def k3_of(new):
    return 0.5 / new - math.log(0.5 / new) - 1


def test_diffu_grpo_by_hand(even, pair):
    """Ratios 1.5 for a 0 and 0.5 for a 1; advantages ½ and −½; clipped to [0.8, 1.2]."""
    rows, metrics = moved(DIFFU, even, pair)
    assert_close(rows, tensor([-(1.2 + 0.5) * 0.5 / 4, (0.8 + 0.8) * 0.5 / 4]))
    assert_close(metrics["clipped"], tensor([0.5, 1.0]))


def test_the_penalty_is_the_k3_divergence_from_the_reference(even, pair):
    plain, _ = moved(DIFFU, even, pair)
    say(even.model, 0.5)
    rows, _ = moved(replace(DIFFU, kl_penalty=0.3), even, pair)
    penalty = tensor([k3_of(0.75) + k3_of(0.25), 2 * k3_of(0.25)]) / 4
    assert_close(rows - plain, 0.3 * penalty)


@pytest.mark.parametrize("name", ["diffu_grpo", "coupled_grpo", "diffpo"])
def test_old_is_the_policy_at_rollout_and_reference_its_snapshot(even, pair, name):
    say(even.model, 0.75)
    buffer_data = RL[name].prepare(even, pair, 3, SEEDS)
    # 1 but for the coupled surrogate.
    ratios = buffer_data.ratios if name == "diffpo" else buffer_data
    weight = ratios.old / tensor([[0.75, 0.25], [0.25, 0.25]]).log()[:, None]
    assert_close(ratios.reference, weight * math.log(0.5))
    assert weight.shape == (2, 3, 2)
    assert torch.allclose(weight, torch.ones(1)) == (name != "coupled_grpo")


def test_tokens_after_the_end_of_text_do_not_count(even, pair):
    pair.loss_mask = tensor([[1.0, 0.0], [1.0, 1.0]])
    rows, _ = moved(DIFFU, even, pair)
    assert_close(rows, tensor([-1.2 * 0.5 / 3, (0.8 + 0.8) * 0.5 / 3]))


def test_coupled_grpo_by_hand(even, pair):
    """With t = ½ a token's score is ½ (1 + 2) log π; leave-one-out advantages are 1 and −1."""
    masks = {"rate": tensor([0.5, 0.5]), "first": tensor([[True, False], [False, False]])}
    rows, _ = moved(COUPLED, even, pair, old=torch.full((2, 2), -1.5 * LN2), masks=masks)
    assert_close(rows, tensor([-(1.2 + 0.5**1.5) / 4, (0.8 + 0.8) / 4]))


@pytest.mark.parametrize(
    ("changes", "weights", "clamped"),
    [
        ({}, [[1.0, 1.5], [0.5, 1.0]], [0.5, 0.0]),  # min(1.5, ½ / behaviour)
        ({"importance_sampling": False}, [[1.0, 1.0], [1.0, 1.0]], None),
        ({"surrogate": "mean_field"}, [[1.0, 1.5], [0.5, 1.0]], [0.5, 0.0]),
        ({"surrogate": "mean_field", "importance_sampling": False}, [[1.0, 1.0], [1.0, 1.0]], None),
        ({"clamp": 4.0}, [[1.0, 2.0], [0.5, 1.0]], [0.0, 0.0]),
        ({"kl_penalty": 0.3}, [[1.0, 1.5], [0.5, 1.0]], [0.5, 0.0]),  # the penalty is not weighted
    ],
)
def test_diffpo_by_hand(even, pair, changes, weights, clamped):
    pair.log_prob_t1 = tensor([[0.5, 0.25], [1.0, 0.5]]).log()
    rows, metrics = moved(replace(DIFFPO, **changes), even, pair)
    plain = tensor([[-1.2, -0.5], [0.8, 0.8]]) * 0.5
    penalty = changes.get("kl_penalty", 0.0) * tensor([[k3_of(0.75), k3_of(0.25)], [k3_of(0.25)] * 2])
    assert_close(rows, (tensor(weights) * plain + penalty).sum(1) / 4)
    assert ("clamped" in metrics) == (clamped is not None)
    if clamped:
        assert_close(metrics["clamped"], tensor(clamped))


def test_diffpo_surrogates_differ_where_the_model_looks_at_what_it_sees():
    """Where the surrogate is the behaviour (tokens of step τ) the importance weight is exactly 1; the share at C is
    logged."""
    model = TabularModel(3, 4, 2.0, torch.Generator().manual_seed(0))
    policy = Policy(model, tokenizer=None)
    policy.set_reference()
    rollouts = sample(model, torch.rand(81), 8, 8, Seeds((1,)))
    buffer_data = DIFFPO.prepare(policy, rollouts, 3, SEEDS)
    update_data = DIFFPO.refresh(policy, rollouts, buffer_data, 1, SEEDS)
    ratio = (update_data.old - rollouts.log_prob_t1).exp()
    at_tau = rollouts.unmask_step == update_data.masks["tau"][:, None]
    assert at_tau.sum() == 64
    assert_close(ratio[at_tau], torch.ones(64))
    _, metrics = DIFFPO.loss(policy, rollouts, buffer_data, update_data)
    assert float(metrics["clamped"].mean()) == pytest.approx(float((ratio >= 1.5).float().mean()))
    assert 0 < metrics["clamped"].mean() < 1
    mean_field = replace(DIFFPO, surrogate="mean_field")
    other = mean_field.prepare(policy, rollouts, 3, SEEDS)
    assert not torch.allclose(other.ratios.old, buffer_data.ratios.old)


def test_released_mask_index_sees_half_of_the_maskings(even, pair):
    rows, updates = 10, 6
    rollouts = sample(even.model, torch.rand(4), 1, rows, Seeds((0,)))
    seen = {}
    for index in ("update", "micro_step"):
        method = replace(DIFFU, mask_index=index)
        buffer_data = method.prepare(even, rollouts, updates, SEEDS)
        buffer_data = replace(buffer_data, old=torch.arange(updates)[None, :, None].expand(rows, updates, 2))
        old = [method.refresh(even, rollouts, buffer_data, u, SEEDS).old[:, 0] for u in range(updates)]
        seen[index] = [sorted(set(row)) for row in torch.stack(old, 1).tolist()]
    assert seen["update"] == [[0, 1, 2, 3, 4, 5]] * 10
    assert seen["micro_step"] == [[0, 2, 4]] * 5 + [[1, 3, 5]] * 5


# --- SFT --------------------------------------------------------------------------------------------------------------


def test_sft_by_hand(even, pair):
    method = LOSSES["sft"]
    copies = Copies(tensor([[BOTH], [FIRST]]), tensor([[1 / 0.8], [1 / 0.4]]) / 2)
    say(even.model, 0.75)
    rows, _ = method.loss(even, pair, NoData(), copies)
    zero, one = -math.log(0.75), -math.log(0.25)
    assert_close(rows, tensor([(zero + one) / 0.8, one / 0.4]) / 2 / 2)


def test_sft_is_an_unbiased_negative_elbo_a_token():
    model = TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)).requires_grad_(False)
    policy, method = Policy(model, tokenizer=None), LOSSES["sft"]
    rollouts = sample(model, torch.zeros(81), 1, 2, Seeds((0,)))
    many = rollouts.part(torch.zeros(40000, dtype=torch.long))
    many = replace(many, buffer_rows=1)
    rows, _ = method.loss(policy, many, NoData(), method.refresh(policy, many, NoData(), 0, SEEDS))
    exact = -exact_elbo(model)[(rollouts.response[0] * tensor([27, 9, 3, 1])).sum()] / 4
    assert abs(float(rows.mean() - exact)) < 4.5 * float(rows.std()) / 200
