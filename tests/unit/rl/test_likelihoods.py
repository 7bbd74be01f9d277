"""The surrogates against the exact laboratory, where every mask set and every order can be enumerated."""

import math
from types import SimpleNamespace

import pytest
import torch

from helpers.enumeration import consistent_model, exact_elbo
from helpers.streams import streams
from unmask.config.schema.samplers import RandomOrder
from unmask.models.tabular import (
    TabularModel,
    all_responses,
    conditional,
    log_likelihood,
    subsets,
)
from unmask.rl.likelihoods import (
    coupled,
    draw_copies,
    draw_coupled,
    draw_stage,
    elbo,
    mean_field,
    trajectory,
    two_stage,
)
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings


def seeded(number=0):
    return torch.Generator().manual_seed(number)


@pytest.fixture
def model():
    return TabularModel(3, 4, 1.0, seeded()).requires_grad_(False)


def with_prompt(response):
    """What every surrogate takes; the tabular model ignores the prompt."""
    prompt = torch.zeros((len(response), 1), dtype=torch.long)
    return prompt, torch.ones_like(prompt, dtype=torch.bool), response


def z_scores(samples, expected):
    """How many standard errors the mean of samples [N, …] lies from what is expected."""
    error = samples.std(0) / math.sqrt(len(samples))
    return ((samples.mean(0) - expected) / error).abs()


# --- negative ELBO ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("antithetic", [True, False])
def test_uniform_masks_weigh_every_set_as_the_elbo_does(antithetic):
    """E[weight · 1(masked set = S)] = 1 / (m · C(L, m)): unbiased for any model."""
    length = 4
    copies = draw_copies(2, length, "uniform", streams(60000), antithetic)
    for masked in subsets(length)[1:]:
        m = int(masked.sum())
        drawn = (copies.weight * (copies.masked == masked).all(-1)).mean(1)
        assert z_scores(drawn, 1 / (m * math.comb(length, m))) < 4.5


@pytest.mark.parametrize("antithetic", [True, False])
def test_monte_carlo_elbo_is_unbiased(model, antithetic):
    responses, exact = all_responses(model), exact_elbo(model)
    chosen = [0, 17, 40, 80]
    rows = responses[chosen].repeat(20000, 1)
    copies = draw_copies(2, 4, "uniform", streams(len(rows), 1), antithetic)
    drawn = elbo(model, *with_prompt(rows), copies).view(-1, len(chosen))
    assert torch.all(z_scores(drawn, exact[chosen]) < 4.5)


def test_bernoulli_masks_are_biased_as_documented(model):
    rows = all_responses(model)[[40]].repeat(20000, 1)
    copies = draw_copies(2, 4, "bernoulli", streams(len(rows), 1))
    drawn = elbo(model, *with_prompt(rows), copies)
    assert z_scores(drawn, exact_elbo(model)[40]) > 4.5


def test_elbo_is_below_the_log_likelihood_and_equal_for_a_consistent_model(model):
    assert torch.all(exact_elbo(model) <= log_likelihood(model))
    assert (log_likelihood(model) - exact_elbo(model)).max() > 0.1
    joint = torch.log_softmax(2 * torch.randn(81, generator=seeded()), 0)
    same = consistent_model(joint, 3, 4).requires_grad_(False)
    torch.testing.assert_close(log_likelihood(same), joint, atol=1e-4, rtol=0)
    torch.testing.assert_close(exact_elbo(same), joint, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheme", ["uniform", "bernoulli"])
def test_antithetic_pairs_mask_each_token_exactly_once(scheme):
    copies = draw_copies(6, 9, scheme, streams(50))
    assert torch.all(copies.masked[:, 0::2] ^ copies.masked[:, 1::2])
    assert torch.all((copies.weight == 0) == (copies.masked.sum(-1) == 0))
    with pytest.raises(ValueError, match="even number"):
        draw_copies(3, 9, scheme, streams(1))


def test_common_masks_make_the_difference_of_two_policies_less_noisy(model):
    other = TabularModel(3, 4, 1.0, seeded()).requires_grad_(False)
    other.table += 0.3 * torch.randn(other.table.shape, generator=seeded(5))
    inputs = with_prompt(all_responses(model)[[40]].repeat(4000, 1))
    first, second = (draw_copies(4, 4, "uniform", streams(4000, s)) for s in (1, 2))
    common = elbo(model, *inputs, first) - elbo(other, *inputs, first)
    independent = elbo(model, *inputs, first) - elbo(other, *inputs, second)
    assert common.var() < 0.5 * independent.var()


# --- mean field, coupled ----------------------------------------------------------------------------------------------


def test_mean_field_scores_each_token_with_nothing_given(model):
    responses = all_responses(model)
    inputs = with_prompt(responses)
    expected = conditional(model, responses, torch.zeros(4, dtype=torch.bool))
    torch.testing.assert_close(mean_field(model, *inputs, torch.zeros_like(inputs[1])), expected)


def test_coupled_scores_each_token_exactly_once_in_the_pair():
    """With log π = −1 everywhere the score is −½ (1 + w): one full pass and one pass of the pair, weighted by w."""
    always = SimpleNamespace(
        config=SimpleNamespace(mask_token_id=9),
        hidden_states=lambda ids, mask, columns: ids[:, columns, None].float(),
        target_log_probs=lambda hidden, target: torch.full((len(hidden),), -1.0),
    )
    response = torch.randint(9, (64, 12), generator=seeded())
    rate, first = draw_coupled(12, streams(64))
    assert torch.all((rate >= 0.2) & (rate <= 0.8))
    weight = torch.where(first, 1 / rate[:, None], 1 / (1 - rate[:, None]))
    torch.testing.assert_close(coupled(always, *with_prompt(response), rate, first), -0.5 * (1 + weight))


def test_coupled_gives_each_pass_the_tokens_it_does_not_mask(model):
    responses = all_responses(model)
    first = torch.tensor([True, False, False, True])
    none_seen = torch.zeros(4, dtype=torch.bool)
    pair = torch.where(first, conditional(model, responses, ~first), conditional(model, responses, first))
    weight = torch.where(first, 1 / 0.4, 1 / 0.6)
    expected = 0.5 * (conditional(model, responses, none_seen) + weight * pair)
    rows = len(responses)
    found = coupled(model, *with_prompt(responses), torch.full((rows,), 0.4), first.expand(rows, -1))
    torch.testing.assert_close(found, expected)


# --- along the sampler's trajectory -----------------------------------------------------------------------------------


def in_random_order(model, rows, seed=0):
    prompt, mask, _ = with_prompt(torch.zeros((rows, 1)))
    settings = DecodingSettings(model.length, model.length, RandomOrder(), temperature=1.0)
    return decode(model, prompt, mask, settings, eot=-1, streams=streams(rows, seed))


def test_random_order_draws_from_the_exact_likelihood():
    model = TabularModel(2, 3, 1.0, seeded(3)).requires_grad_(False)
    made = in_random_order(model, 40000)
    assert torch.all(made.unmask_step.sort(1).values == torch.arange(3))
    counts = torch.bincount((made.response * torch.tensor([4, 2, 1])).sum(1), minlength=8)
    expected = 40000 * log_likelihood(model).exp()
    assert ((counts - expected) ** 2 / expected).sum() < 24.3  # 99.9 % point for 7 degrees of freedom
    orders = torch.bincount((made.unmask_step * torch.tensor([9, 3, 1])).sum(1))
    assert (orders > 0).sum() == 6
    assert orders[orders > 0].float().std() < 5 * math.sqrt(40000 / 6)


def test_trajectory_of_one_token_a_step_equals_the_recorded_probabilities(model):
    made = in_random_order(model, 200)
    everything = torch.ones_like(made.unmask_step, dtype=torch.bool)
    again = trajectory(model, *with_prompt(made.response), made.unmask_step, everything)
    torch.testing.assert_close(again, made.log_prob_t1)
    some = made.unmask_step < 2
    torch.testing.assert_close(
        trajectory(model, *with_prompt(made.response), made.unmask_step, some), made.log_prob_t1.where(some, 0)
    )


def test_two_stage_at_the_first_step_is_the_mean_field(model):
    made = in_random_order(model, 100)
    inputs = with_prompt(made.response)
    found = two_stage(model, *inputs, made.unmask_step, torch.zeros_like(made.nfe))
    torch.testing.assert_close(found, mean_field(model, *inputs, torch.zeros_like(inputs[1])))


def test_two_stage_gives_late_tokens_what_was_committed_before_tau(model):
    made = in_random_order(model, 100)
    tau = torch.arange(100) % 4
    found = two_stage(model, *with_prompt(made.response), made.unmask_step, tau)
    nothing = torch.zeros(4, dtype=torch.bool)
    for row in range(100):
        early, response = made.unmask_step[row] < tau[row], made.response[row : row + 1]
        expected = torch.where(early, conditional(model, response, nothing), conditional(model, response, early))
        torch.testing.assert_close(found[row : row + 1], expected)
    drawn_at_tau = made.unmask_step == tau[:, None]
    torch.testing.assert_close(found[drawn_at_tau], made.log_prob_t1[drawn_at_tau])


def test_stages_are_uniform_over_the_steps_of_each_response():
    nfe = torch.tensor([1, 4, 0]).repeat(20000)
    tau = draw_stage(nfe, streams(60000)).view(-1, 3)
    assert torch.all(tau[:, [0, 2]] == 0)
    assert ((torch.bincount(tau[:, 1], minlength=4) - 5000).abs() < 4.5 * math.sqrt(20000 * 3 / 16)).all()


def test_two_stage_is_closer_to_the_trained_policy_than_the_mean_field_at_late_steps(policy):
    """On responses `abcabc…` of three random letters, learnt in a few seconds: late tokens follow from early ones.

    Tokens drawn at temperature 1 make mean(log π_true − log π_surrogate) an estimate of KL(true ‖ surrogate).
    """
    model, generator, mask_id = policy.model, seeded(), policy.model.config.mask_token_id
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(300):
        response = torch.randint(10, 16, (64, 3), generator=generator).repeat(1, 4)
        masked = torch.rand(response.shape, generator=generator) < torch.rand((64, 1), generator=generator)
        masked[:, 0] = True
        hidden = model.hidden_states(response.masked_fill(masked, mask_id))
        loss = torch.nn.functional.nll_loss(model.log_probs(hidden[masked]), response[masked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.requires_grad_(False)
    prompt, mask, _ = with_prompt(torch.zeros((400, 1)))
    settings = DecodingSettings(12, 12, RandomOrder(), temperature=1.0)
    made = decode(model, prompt + 9, mask, settings, eot=-1, streams=streams(400))
    inputs = (prompt + 9, mask, made.response)
    late = made.unmask_step >= 6
    tau = draw_stage(made.nfe, streams(400, 1))
    gaps = {
        "mean_field": made.log_prob_t1 - mean_field(model, *inputs, torch.zeros_like(mask)),
        "two_stage": made.log_prob_t1 - two_stage(model, *inputs, made.unmask_step, tau),
    }
    kl = {name: float(gap[late].mean()) for name, gap in gaps.items()}
    assert kl["two_stage"] < 0.8 * kl["mean_field"], kl
    assert kl["mean_field"] > 0.5, kl
