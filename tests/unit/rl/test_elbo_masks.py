"""Stratified levels and quadrature against enumeration of all masked sets."""

import math

import pytest
import torch
from torch.testing import assert_close

from helpers.enumeration import exact_elbo
from helpers.streams import streams
from unmask.models.tabular import TabularModel, all_responses, scores_by_size, subsets
from unmask.rl.elbo_masks import (
    draw_quadrature,
    draw_stratified,
    gauss_legendre,
    quadrature_sizes,
    unweighted,
)
from unmask.rl.likelihoods import draw_copies, elbo


@pytest.fixture
def model():
    return TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)).requires_grad_(False)


def with_prompt(response):
    prompt = torch.zeros((len(response), 1), dtype=torch.long)
    return prompt, torch.ones_like(prompt, dtype=torch.bool), response


def z_scores(samples, expected):
    """How many standard errors the mean of samples [N, …] lies from what is expected."""
    error = samples.std(0) / math.sqrt(len(samples))
    return ((samples.mean(0) - expected) / error).abs()


# --- stratified -------------------------------------------------------------------------------------------------------


def test_levels_of_a_run_by_hand():
    """L = 6 and 4 rows: steps of 7/4 rounded, 0, 2, 4 (of 3.5), 5, from a common offset, modulo 7."""
    copies = draw_stratified(4, 6, streams(400), 4)
    sizes = copies.masked[:, ::2].sum(-1).view(100, 4, 2)
    steps = torch.tensor([0, 2, 4, 5])[None, :, None]
    assert torch.equal(sizes, (sizes[:, :1] + steps) % 7)
    assert len(sizes[:, 0].unique()) == 7  # the offset varies between runs
    assert not torch.equal(sizes[..., 0], sizes[..., 1])  # and between pairs


def test_runs_of_one_row_are_the_uniform_antithetic_copies():
    """ESPO's estimator without stratification is the uniform antithetic ELBO, to the last bit."""
    found, expected = draw_stratified(6, 9, streams(50), 1), draw_copies(6, 9, "uniform", streams(50))
    assert torch.equal(found.masked, expected.masked)
    assert torch.equal(found.weight, expected.weight)


def test_every_row_has_the_distribution_of_uniform_copies():
    """E[weight · 1(masked set = S)] = 1 / (m · C(L, m)) for each place in a run."""
    length, rows = 4, 3
    copies = draw_stratified(2, length, streams(20000 * rows), rows)
    for masked in subsets(length)[1:]:
        m = int(masked.sum())
        drawn = (copies.weight * (copies.masked == masked).all(-1)).mean(1).view(-1, rows)
        assert torch.all(z_scores(drawn, 1 / (m * math.comb(length, m))) < 4.5)


def test_the_estimate_is_that_of_the_formula(model):
    """½ [(L + 1)/m Σ_{d∈M} ℓ_d(M) + (L + 1)/(L − m) Σ_{d∉M} ℓ_d(M̄)], an empty side contributing 0."""
    responses = all_responses(model)[:60]
    copies = draw_stratified(2, 4, streams(60), 6)
    found = elbo(model, *with_prompt(responses), copies)
    for row in range(60):
        expected = 0.0
        for masked in copies.masked[row]:
            m = int(masked.sum())
            if m:
                state = torch.where(masked, 3, responses[row])
                scores = model.log_probs(model.hidden_states(state[None]))[0].gather(1, responses[row, :, None])[:, 0]
                expected += 0.5 * 5 / m * float(scores[masked].sum())
        assert float(found[row]) == pytest.approx(expected, abs=1e-5)


def test_sums_over_a_run_are_less_noisy(model):
    runs, rows = 2000, 8
    inputs = with_prompt(all_responses(model)[[40]].repeat(runs * rows, 1))
    sums = []
    for together in (1, rows):
        estimates = elbo(model, *inputs, draw_stratified(2, 4, streams(runs * rows, together), together))
        sums.append(estimates.view(runs, rows).mean(1))
    assert z_scores(sums[1], exact_elbo(model)[40]) < 4.5
    assert sums[1].var() < 0.7 * sums[0].var()


def test_a_run_does_not_depend_on_the_others():
    whole, part = draw_stratified(4, 9, streams(24), 8), draw_stratified(4, 9, streams(24)[8:16], 8)
    assert torch.equal(whole.masked[8:16], part.masked)


def test_pairs_mask_each_token_once_and_an_odd_number_is_refused():
    copies = draw_stratified(6, 9, streams(50), 5)
    assert torch.all(copies.masked[:, 0::2] ^ copies.masked[:, 1::2])
    assert torch.all((copies.weight == 0) == (copies.masked.sum(-1) == 0))
    assert torch.equal(unweighted(copies).weight, torch.ones(50, 6))
    with pytest.raises(ValueError, match="even number"):
        draw_stratified(3, 9, streams(1), 1)


# --- quadrature -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
def test_nodes_integrate_polynomials_exactly(nodes):
    points, weights = gauss_legendre(nodes)
    for power in range(2 * nodes):
        assert float((weights * points**power).sum()) == pytest.approx(1 / (power + 1))
    assert float((weights * points ** (2 * nodes)).sum()) != pytest.approx(1 / (2 * nodes + 1), rel=1e-6)


def test_sizes_and_weights_by_hand():
    """Two nodes at ½ ± 1/√12, 0.211 and 0.789: of 8 tokens 2 and 6 are masked, and of 1 token one twice."""
    copies = draw_quadrature(2, 8, streams(30))
    assert torch.all(copies.masked.sum(-1) == torch.tensor([2, 6]))
    assert_close(copies.weight, torch.tensor([[8 / 2, 8 / 6]]).expand(30, 2))  # N · w · L/m
    assert quadrature_sizes(2, 1).tolist() == [1, 1]
    assert quadrature_sizes(3, 256).tolist() == [29, 128, 227]


def test_the_mean_is_that_of_uniform_subsets_of_the_sizes_of_the_nodes(model):
    """E = Σ_n w_n (L/m_n) S̄_{m_n}, for three nodes with 1, 2 and 4 of 4 tokens."""
    sizes, weights = quadrature_sizes(3, 4), gauss_legendre(3)[1].float()
    expected = (weights * 4 / sizes) @ scores_by_size(model)[sizes]
    chosen = [0, 17, 40, 80]
    rows = all_responses(model)[chosen].repeat(10000, 1)
    drawn = elbo(model, *with_prompt(rows), draw_quadrature(3, 4, streams(len(rows)))).view(-1, len(chosen))
    assert torch.all(z_scores(drawn, expected[chosen]) < 4.5)


def integrand(model, t):
    """g(t) = Σ_m Binomial(L, t)(m) · S̄_m/t of every response [V^L]."""
    length = model.length
    scores = scores_by_size(model)
    terms = [math.comb(length, m) * t ** (m - 1) * (1 - t) ** (length - m) * scores[m] for m in range(1, length + 1)]
    return torch.stack(terms).sum(0)


def test_all_bias_is_that_of_the_rounding_where_the_quadrature_is_exact(model):
    """g is a polynomial of degree L − 1 = 3, which two nodes integrate exactly; masking round(t L) tokens does not."""
    points, weights = gauss_legendre(2)
    exact = exact_elbo(model)
    at_nodes = sum(float(w) * integrand(model, float(t)) for t, w in zip(points, weights, strict=True))
    assert_close(at_nodes, exact, atol=1e-5, rtol=0)
    sizes = quadrature_sizes(2, 4)
    rounded = (weights.float() * 4 / sizes) @ scores_by_size(model)[sizes]
    assert (rounded - exact).abs().max() > 0.05


def test_scores_by_size_sum_to_the_elbo(model):
    scores = scores_by_size(model)
    assert_close(sum(scores[m] / m for m in range(1, 5)), exact_elbo(model))


def test_levels_at_random_are_noisier_than_two_nodes(model):
    """At two forward passes, without antithetic pairs: variance around each estimator's own mean."""
    inputs = with_prompt(all_responses(model)[[40]].repeat(4000, 1))
    random = elbo(model, *inputs, draw_copies(2, 4, "uniform", streams(4000), antithetic=False))
    fixed = elbo(model, *inputs, draw_quadrature(2, 4, streams(4000)))
    assert fixed.var() < random.var()
