"""The textbook itself, by hand: its commit rules on small tables, its draws, caches and losses on a small model."""

import math

import pytest
import torch
from torch.nn import functional as F

import textbook
from unmask.rl.likelihoods import Copies, denoising, elbo

# Four positions, three tokens; the best have .5, .9, .65 and .8.
TABLE = torch.tensor([[0.5, 0.3, 0.2], [0.09, 0.9, 0.01], [0.1, 0.25, 0.65], [0.8, 0.2, 0.0]], dtype=torch.float64)
H = [-sum(p * math.log(p) for p in row if p > 0) for row in TABLE.tolist()]
BEST = TABLE.argmax(1)


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def chosen(rule, token=BEST, seed=0, **settings):
    return textbook.choose({"rule": rule, **settings}, TABLE, token, seeded(seed))


def test_the_table_is_what_the_tests_say():
    assert [round(h, 4) for h in H] == [1.0297, 0.3576, 0.8568, 0.5004]


def test_top_k_takes_the_most_probable_drawn_tokens():
    assert chosen("top_k", tokens_per_step=1, score="confidence") == [1]
    assert chosen("top_k", tokens_per_step=3, score="confidence") == [1, 3, 2]
    assert chosen("top_k", tokens_per_step=9, score="confidence") == [1, 3, 2, 0]


def test_confidence_is_that_of_the_drawn_token_and_not_of_the_best():
    drawn = torch.tensor([0, 2, 1, 1])  # probabilities .5, .01, .25, .2
    assert chosen("top_k", drawn, tokens_per_step=2, score="confidence") == [0, 2]
    assert chosen("threshold", drawn, confidence=0.2) == [0, 2, 3]


def test_random_scores_are_uniform_and_distinct():
    first = torch.tensor([chosen("top_k", seed=s, tokens_per_step=2, score="random") for s in range(4000)])
    assert (first[:, 0] != first[:, 1]).all()
    counts = torch.bincount(first[:, 0] * 4 + first[:, 1], minlength=16).double()
    expected = 4000 / 12
    assert float(((counts[counts > 0] - expected) ** 2 / expected).sum()) < 31.26  # 99.9 %, 11 degrees of freedom
    assert {len(chosen("random_order", seed=s)) for s in range(20)} == {1}


def test_left_to_right_takes_the_first():
    assert chosen("left_to_right") == [0]


@pytest.mark.parametrize(
    ("confidence", "kept"), [(0.95, [1]), (0.9, [1]), (0.8, [1, 3]), (0.65, [1, 3, 2]), (0.0, [1, 3, 2, 0])]
)
def test_threshold_keeps_what_reaches_it_and_at_least_the_best(confidence, kept):
    assert chosen("threshold", confidence=confidence) == kept


@pytest.mark.parametrize(
    ("factor", "kept"),  # (n + 1)(1 − c_(n)) is .2, .6, 1.4, 2.5
    [(0.1, [1]), (0.21, [1]), (0.59, [1]), (0.61, [1, 3]), (1.41, [1, 3, 2]), (2.49, [1, 3, 2]), (2.51, [1, 3, 2, 0])],
)
def test_factor_keeps_the_largest_n_below_it(factor, kept):
    assert chosen("factor", factor=factor) == kept


@pytest.mark.parametrize(
    ("gamma", "kept"),  # Σ − max over prefixes of the sorted entropies: 0, .3576, .8580, 1.7149
    [(0.0, [1]), (0.35, [1]), (0.36, [1, 3]), (0.85, [1, 3]), (0.86, [1, 3, 2]), (1.71, [1, 3, 2]), (9, [1, 3, 2, 0])],
)
def test_entropy_bound_keeps_the_largest_prefix_within_gamma(gamma, kept):
    assert chosen("entropy_bound", gamma=gamma, proxy="entropy") == kept


def test_proxies_sort_differently_and_the_bound_stays_in_entropies():
    table = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.55, 0.15, 0.15, 0.15], [0.6, 0.38, 0.01, 0.01]]).double()
    entropy = torch.special.entr(table).sum(1).tolist()  # .6931, 1.1824, .7663
    order = {proxy: textbook.entropy_bound(table, math.inf, proxy) for proxy in ("entropy", "confidence", "margin")}
    assert order == {"entropy": [0, 2, 1], "confidence": [2, 1, 0], "margin": [1, 2, 0]}
    for proxy, (first, second, _) in order.items():
        both = min(entropy[first], entropy[second])  # the larger one is free
        assert textbook.entropy_bound(table, both - 1e-6, proxy) == [first]
        assert textbook.entropy_bound(table, both + 1e-6, proxy) == [first, second]


def test_the_number_kept_grows_with_gamma():
    for seed in range(20):
        table = torch.rand((8, 5), generator=seeded(seed), dtype=torch.float64).pow(3)
        table /= table.sum(1, keepdim=True)
        for proxy in ("entropy", "confidence", "margin"):
            kept = [len(textbook.entropy_bound(table, gamma, proxy)) for gamma in torch.linspace(0, 16, 40)]
            assert kept == sorted(kept)
            assert kept[0] == 1
            assert kept[-1] == 8


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_gumbel_max_draws_from_the_softmax(temperature):
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, -torch.inf], dtype=torch.float64)
    drawn = textbook.gumbel_max(logits.expand(1, 40000, -1), temperature, seeded())[0]
    counts, expected = torch.bincount(drawn, minlength=5), 40000 * torch.softmax(logits / temperature, -1)
    assert counts[4] == 0
    assert float(((counts - expected)[:4] ** 2 / expected[:4]).sum()) < 16.27  # 99.9 %, 3 degrees of freedom


# --- on a model -------------------------------------------------------------------------------------------------------


@pytest.fixture
def prompt():
    return torch.randint(2, 50, (2, 6), generator=seeded())


def test_forward_is_that_of_the_model(policy, prompt):
    torch.testing.assert_close(textbook.forward(policy.model, prompt)[0], policy.model(prompt), atol=1e-5, rtol=1e-5)


def test_a_cache_of_the_same_tokens_changes_nothing(policy, prompt):
    whole, cache = textbook.forward(policy.model, prompt)
    part, again = textbook.forward(policy.model, prompt[:, 2:4], 2, cache)
    torch.testing.assert_close(part, whole[:, 2:4], atol=1e-5, rtol=1e-5)
    for (key, value), (new_key, new_value) in zip(cache, again, strict=True):
        torch.testing.assert_close((key, value), (new_key, new_value), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_the_first_pass_of_a_block_does_not_use_the_cache(policy, prompt, cache):
    """A block in one pass never looks anything up; more passes do, and what they see is stale."""
    settings = {"length": 16, "block_length": 4, "temperature": 0.0, "eot": -1, "generator": seeded()}
    at_once = {"rule": "top_k", "tokens_per_step": 4, "score": "confidence"}
    plain, cached = (
        textbook.decode(policy.model, prompt, sampler=at_once, cache=kind, **settings) for kind in ("none", cache)
    )
    assert torch.equal(plain.response, cached.response)
    assert cached.nfe.tolist() == [4, 4]
    one = textbook.decode(policy.model, prompt, sampler={**at_once, "tokens_per_step": 1}, cache=cache, **settings)
    assert one.nfe.tolist() == [16, 16]
    assert one.unmask_step.view(2, 4, 4).sort(-1).values.tolist() == [torch.arange(16).view(4, 4).tolist()] * 2


def test_losses_by_hand_on_one_masked_token(policy, prompt):
    response = torch.randint(2, 50, (2, 4), generator=seeded(1))
    masked = torch.zeros((2, 1, 4), dtype=torch.bool)
    masked[:, 0, 2] = True
    noisy = torch.cat((prompt, response), 1)
    noisy[:, 6 + 2] = 0  # [MASK]
    logits = policy.model(noisy)[:, 6 + 2]
    logits[:, 0] = -torch.inf
    token = -F.cross_entropy(logits, response[:, 2], reduction="none")
    torch.testing.assert_close(textbook.elbo(policy.model, prompt, response, masked), 4 * token, atol=1e-5, rtol=1e-5)
    loss = textbook.wdce(policy.model, prompt, response, masked, torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(loss, -(2 * token[0] - token[1]) / 2, atol=1e-5, rtol=1e-5)


def test_our_losses_and_gradients_are_those_of_the_textbook(policy, prompt):
    response = torch.randint(2, 50, (2, 8), generator=seeded(1))
    masked = torch.rand((2, 4, 8), generator=seeded(2)) < 0.5
    copies = Copies(masked, 8 / masked.sum(-1))
    inputs = (prompt, torch.ones_like(prompt, dtype=torch.bool), response)
    weight = torch.tensor([1.5, -0.5])
    ours = elbo(policy.model, *inputs, copies)
    torch.testing.assert_close(ours, textbook.elbo(policy.model, prompt, response, masked), atol=1e-4, rtol=1e-5)
    losses = (
        -(weight * denoising(policy.model, *inputs, copies).mean(1)).mean() / 8,
        textbook.wdce(policy.model, prompt, response, masked, weight),
    )
    parameters = list(policy.model.parameters())
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in losses)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
