"""Distribution matching in the exact laboratory: expected gradients by enumeration, and where training ends."""

import math
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from helpers.enumeration import consistent_model, exact_elbo, total_variation
from helpers.every_method import COUPLED
from helpers.paths import ROOT
from unmask.common.seeding import Seeds
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.specs import ToySpec
from unmask.methods.dmpo import Dmpo, DmpoBuffer, DmpoUpdate
from unmask.models.policy import Policy
from unmask.models.tabular import (
    TabularModel,
    all_responses,
    entropy,
    index_of,
    log_likelihood,
    subsets,
    target,
)
from unmask.rl.likelihoods import Copies
from unmask.rl.rollouts import Rollouts
from unmask.training.tabular import Loop, sample, train

SOURCE = ROOT / "src"
ALPHA = 0.3
DMPO = Dmpo(
    alpha=ALPHA, eta=1.0, coefficient=1.0, ess_target=0.0, loss_kind="wdce", baseline="none", baseline_strength=1.0,
    wddo_beta=1.0, wddo_negative=1.0, likelihood="trajectory", masks="uniform", elbo_copies=4, copies=4,
    micro_batch_rows=0,
)  # fmt: skip
SEEDS = Seeds((0,))


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def world(vocabulary=3, length=3, modes=4, seed=0):
    """A random reference, a reward of 1 on some responses, and log p*."""
    generator = seeded(seed)
    model = TabularModel(vocabulary, length, 0.5, generator)
    reward = torch.zeros(vocabulary**length)
    reward[torch.randperm(len(reward), generator=generator)[:modes]] = 1.0
    with torch.no_grad():
        return model, reward, target(log_likelihood(model), reward, ALPHA)


def policy_of(model):
    policy = Policy(model, tokenizer=None)
    policy.set_reference()
    return policy


def gradient(model, loss):
    (found,) = torch.autograd.grad(loss, model.table)
    return found


# --- the laboratory itself --------------------------------------------------------------------------------------------


def test_likelihoods_are_a_distribution_over_the_enumerated_responses():
    model, _, goal = world(vocabulary=3, length=4)
    log_p = log_likelihood(model).detach()
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert_close(index_of(all_responses(model), 3), torch.arange(81))
    assert float(goal.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert total_variation(goal, goal) == 0
    assert entropy(torch.full((81,), -math.log(81))) == pytest.approx(math.log(81))


# --- expected gradients -----------------------------------------------------------------------------------------------


def every_response(model):
    """A buffer that holds each response once."""
    responses = all_responses(model)
    rows = len(responses)
    prompt, zeros = torch.zeros((rows, 1), dtype=torch.long), torch.zeros((rows, 1))
    return Rollouts(
        prompt, prompt == 0, responses, 0 * responses, zeros, zeros[:, 0], zeros[:, 0], zeros[:, 0],
        torch.ones_like(responses), group_size=rows, buffer_rows=rows, micro_batch_size=rows,
    )  # fmt: skip


def expected_wdce(model, log_old, weight_real):
    """The expected loss of DMPO: over responses from p_old, and over masks of every size and set."""
    length, rollouts = model.length, every_response(model)
    masked = torch.stack(subsets(length)[1:]).expand(len(rollouts), -1, -1)
    size = masked.sum(-1)
    sets = torch.tensor([math.comb(length, m) for m in range(length + 1)])[size]
    update_data = DmpoUpdate(weight_real, Copies(masked, size.shape[1] / (length * sets) / size))
    rows, _ = DMPO.loss(policy_of(model), rollouts, DmpoBuffer(weight_real, 0 * weight_real), update_data)
    return (log_old.exp() * rows).sum() * len(rollouts)


def test_expected_wdce_gradient_is_that_of_the_weighted_negative_elbo():
    model, _, goal = world()
    old = log_likelihood(model).detach()
    current = TabularModel(3, 3, 0.7, seeded(9))  # off policy: the weights are fixed, the model has moved on
    found = gradient(current, expected_wdce(current, old, (goal - old).exp()))
    expected = gradient(current, -(goal.exp() * exact_elbo(current)).sum() / 3)
    assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_gradient_of_a_sampled_buffer_converges_to_the_exact_one():
    """Through prepare, refresh and loss: self-normalised weights, random orders, antithetic masks."""
    model, reward, goal = world()
    policy = policy_of(model)
    model.table.data += 0.5 * torch.randn(model.table.shape, generator=seeded(5))
    exact = gradient(model, -(goal.exp() * exact_elbo(model)).sum() / 3)
    errors = []
    for size in (200, 20000):
        rollouts = sample(model, reward, 1, size, Seeds((size,)))
        buffer_data = DMPO.prepare(policy, rollouts, 1, SEEDS)
        rows, _ = DMPO.loss(policy, rollouts, buffer_data, DMPO.refresh(policy, rollouts, buffer_data, 0, SEEDS))
        errors.append(float((gradient(model, rows.sum()) - exact).norm() / exact.norm()))
    assert errors[1] < 0.1 < errors[0]


def test_softmax_weights_converge_to_the_importance_weights_with_the_group():
    model, reward, goal = world()
    policy = policy_of(model)
    model.table.data += 0.3 * torch.randn(model.table.shape, generator=seeded(5))
    old = log_likelihood(model).detach()
    errors = {}
    for size in (16, 256, 4096):
        rollouts = sample(model, reward, 8, size, Seeds((size,)))
        index = index_of(rollouts.response, 3)
        buffer_data = DMPO.prepare(policy, rollouts, 1, SEEDS)
        # The weight of a response is random with the order it was drawn in; its mean over orders is p*/p_old.
        count = torch.bincount(index, minlength=27)
        weight = torch.zeros(27).index_add(0, index, buffer_data.weight) / count.clamp(min=1)
        seen = count > 0
        exact = (goal - old).exp()
        errors[size] = float((old.exp() * (weight - exact).abs())[seen].sum())
    assert errors[4096] < errors[256] < errors[16]
    assert errors[4096] < 0.03  # of seven seeds the largest was 0.022


def test_model_baseline_leaves_the_expected_gradient_of_a_consistent_model_unchanged():
    model, reward, _ = world()
    joint = log_likelihood(model).detach()
    same = consistent_model(joint, 3, 3)
    goal = target(joint, reward, ALPHA)
    weight = (goal - joint).exp()
    without = gradient(same, expected_wdce(same, joint, weight))
    with_baseline = gradient(same, expected_wdce(same, joint, weight - torch.ones(27)))  # on policy p_θ / p_old is 1
    assert_close(with_baseline, without, atol=1e-6, rtol=0)
    assert without.norm() > 0.01


def test_model_baseline_biases_the_gradient_of_an_inconsistent_model():
    """Its contribution is E_{p_θ}[∇ ELBO], which is zero only where the ELBO is the log-likelihood."""
    model, _, goal = world()
    old = log_likelihood(model).detach()
    contribution = gradient(model, expected_wdce(model, old, torch.ones(27)))
    whole = gradient(model, expected_wdce(model, old, (goal - old).exp()))
    assert 0.3 < contribution.norm() / whole.norm() < 0.5


@pytest.mark.parametrize(
    ("baseline", "still"), [("none", False), ("group", True), ("model", True), ("individual", False)]
)
def test_which_baselines_leave_the_optimum_alone(baseline, still):
    """At p_old = p* all weights are 1, so a baseline of 1 leaves no gradient at all, not even noise, at any size."""
    model, reward, goal = world()
    policy = policy_of(consistent_model(log_likelihood(model).detach(), 3, 3))
    policy.model.table.data = consistent_model(goal, 3, 3).table.data
    method = replace(DMPO, baseline=baseline)
    rollouts = sample(policy.model, reward, 8, 4, SEEDS)
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    assert_close(buffer_data.weight, torch.ones(32), atol=1e-3, rtol=0)
    rows, _ = method.loss(policy, rollouts, buffer_data, method.refresh(policy, rollouts, buffer_data, 0, SEEDS))
    norm = gradient(policy.model, rows.sum()).norm()
    assert norm < 1e-4 if still else norm > 0.01


# --- where training ends ----------------------------------------------------------------------------------------------


def after(method, loop, seed=0, **kind):
    """The policy's log p_θ after training, with log p* and the reward."""
    model, reward, goal = world(seed=seed, **kind)
    for _ in train(model, reward, method, loop, Seeds((seed,))):
        pass
    return log_likelihood(model).detach(), goal, reward


LONG = Loop(groups=4, group_size=64, updates=300, updates_per_buffer=4, learning_rate=0.06)


@pytest.mark.parametrize(
    "method",
    [
        *(replace(DMPO, baseline=name) for name in ("none", "group", "model")),
        replace(DMPO, loss_kind="wddo"),
    ],
    ids=["none", "group", "model", "wddo"],
)
def test_dmpo_and_wddo_converge_to_the_target(method):
    log_p, goal, _ = after(method, LONG)
    assert total_variation(log_p, goal) < 0.05


def test_the_individual_baseline_goes_past_the_target():
    """An honest negative: its fixed point is not p*. It removes what is bad and then has no reason to stay spread."""
    log_p, goal, reward = after(replace(DMPO, baseline="individual"), LONG)
    assert total_variation(log_p, goal) > 0.2
    assert float((log_p.exp() * reward).sum()) > 0.97
    assert entropy(log_p) < entropy(goal) - 0.5


def test_coupled_grpo_collapses_where_dmpo_keeps_the_modes():
    reward_only, goal, reward = after(replace(COUPLED, clip=0.5), LONG)
    assert entropy(reward_only) < 0.3 * entropy(goal)
    assert float((reward_only.exp() * reward).sum()) > 0.95


def test_small_groups_learn_slowly_without_a_baseline():
    """16 groups of 4, few responses of reward: mean reward after 100 updates, over 3 seeds."""
    loop = Loop(groups=16, group_size=4, updates=100, updates_per_buffer=4, learning_rate=0.05)
    reached = {}
    for baseline in ("none", "group", "individual", "model"):
        runs = [
            after(replace(DMPO, baseline=baseline), loop, seed, vocabulary=4, length=4, modes=8) for seed in range(3)
        ]
        reached[baseline] = sum(float((log_p.exp() * reward).sum()) for log_p, _, reward in runs) / 3
    assert all(reached[name] > 1.5 * reached["none"] for name in ("group", "individual", "model")), reached


def test_elbo_weights_leave_a_bias_that_more_copies_make_smaller():
    """The ELBO of few copies is noisy inside an exponential, and even the exact ELBO is not the log-likelihood."""
    distance = {}
    for copies in (4, 64):
        method = replace(DMPO, baseline="group", likelihood="elbo", elbo_copies=copies)
        log_p, goal, _ = after(method, LONG)
        distance[copies] = total_variation(log_p, goal)
    assert 0.05 < distance[64] < 0.7 * distance[4], distance


# --- the experiment ---------------------------------------------------------------------------------------------------


def test_the_experiment_is_measured_drawn_and_set(grid, tmp_path):
    """Both steps at the smoke scale: a row for each curve, group size, seed and measured update, then the artifacts."""
    spec, curves = tmp_path / "spec.yaml", tmp_path / "curves.csv"
    grid.exact_toy.write(spec)
    names = [tmp_path / f"exact_toy.{end}" for end in ("pdf", "png", "md", "tex", "csv")]
    for script, arguments in {
        "run_exact_toy": [spec, curves],
        "render_exact_toy": [curves, "--figures", *names[:2], "--tables", *names[2:]],
    }.items():
        subprocess.run([sys.executable, SOURCE / f"{script}.py", *arguments], check=True, stdout=subprocess.DEVNULL)
    settings, rows = ToySpec.read(spec).settings, pd.read_csv(curves)
    updates = settings.updates // settings.measure_every + 1
    assert len(rows) == 7 * len(settings.group_sizes) * len(settings.seeds) * updates
    assert rows[rows["update"] == 0].groupby("seed")[["kl", "entropy"]].nunique().eq(1).all().all()
    assert all(name.stat().st_size > 0 for name in names)
    assert len(pd.read_csv(names[-1])) == 14


def test_mistakes_in_the_experiment_are_reported(config):
    config["exact_toy"]["curves"]["group"]["baseline"] = "gruop"
    config["exact_toy"]["curves"]["wddo"]["method"] = "dmpoo"
    config["exact_toy"]["methods"]["dmpo"]["alhpa"] = 0.1
    config["scales"]["smoke"]["exact_toy"] = {"updtes": 3}
    with pytest.raises(ConfigError) as caught:
        expand(config)
    assert caught.value.lines == [
        "exact_toy.curves.wddo.method: unknown 'dmpoo'; did you mean 'dmpo'?",
        "exact_toy.methods.dmpo: unknown 'alhpa'; did you mean 'alpha'?",
        "exact_toy.curves.group.dmpo.baseline: input should be 'none', 'group', 'individual' or 'model', not 'gruop'",
        "scales.smoke.exact_toy: unknown 'updtes'; did you mean 'updates'?",
    ]
