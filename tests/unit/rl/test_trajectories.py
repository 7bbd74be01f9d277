"""Surrogates on the sampler's own trajectory against the exact laboratory, and the special cases that they contain."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from helpers.streams import streams
from unmask.config.schema.samplers import RandomOrder, TopK
from unmask.models.tabular import TabularModel, conditional
from unmask.rl.likelihoods import draw_stage, mean_field, trajectory, two_stage
from unmask.rl.trajectories import Spans, choose_steps, mean_entropy, merge, token_scores
from unmask.samplers.completions import Completions
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings

LENGTH = 4


def seeded(number=0):
    return torch.Generator().manual_seed(number)


@pytest.fixture
def model():
    return TabularModel(3, LENGTH, 1.0, seeded()).requires_grad_(False)


def sampled(model, sampler, rows=120, eot=-1, block=LENGTH):
    prompt = torch.zeros((rows, 1), dtype=torch.long)
    settings = DecodingSettings(LENGTH, block, sampler, temperature=1.0)
    return decode(model, prompt, prompt == 0, settings, eot=eot, streams=streams(rows))


def inputs(made):
    prompt = torch.zeros((len(made.nfe), 1), dtype=torch.long)
    return prompt, prompt == 0, made.response


SAMPLERS = {
    "one token a step": {"sampler": RandomOrder()},
    "two tokens a step": {"sampler": TopK(tokens_per_step=2, score="random")},
    "an early end": {"sampler": RandomOrder(), "eot": 0, "block": 2},
}


@pytest.fixture(params=SAMPLERS)
def made(request, model):
    return sampled(model, **SAMPLERS[request.param])


# --- all steps, merged ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["equal", "random"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_segments_tile_the_steps_of_each_response(cut, count):
    nfe = torch.arange(1, 8).repeat(50)
    spans = merge(nfe, count, cut, streams(len(nfe)))
    assert spans.first.shape == spans.end.shape == (len(nfe), count)
    assert torch.all(spans.first[:, 0] == 0)
    assert torch.all(spans.end[:, -1] == nfe)
    assert torch.equal(spans.end[:, :-1], spans.first[:, 1:])
    assert torch.all(spans.end >= spans.first)
    if cut == "equal":
        longest = -(-nfe // count)
        assert torch.all(spans.end - spans.first <= longest[:, None])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_equal_segments_by_hand(count):
    """Step s of T is in segment ⌊s N / T⌋."""
    for steps in range(1, 8):
        spans = merge(torch.tensor([steps]), count, "equal", streams(1))
        for step in range(steps):
            (where,) = spans.scored(torch.tensor([[step]]))[0, :, 0].nonzero()
            assert int(where) == step * count // steps


def test_each_token_is_scored_at_the_start_of_its_segment(model, made):
    spans = merge(made.nfe, 3, "equal", streams(len(made.nfe)))
    found = token_scores(model, *inputs(made), made.unmask_step, spans).sum(1)
    for row in range(len(made.nfe)):
        for position in range(LENGTH):
            step, steps = int(made.unmask_step[row, position]), int(made.nfe[row])
            if step == steps:
                assert found[row, position] == 0.0  # filled in, not drawn
                continue
            first = math.ceil(step * 3 // steps * steps / 3)
            seen = made.unmask_step[row] < first
            assert_close(found[row, position], conditional(model, made.response[row : row + 1], seen)[0, position])


def test_one_segment_is_the_mean_field_of_an_unmasked_prompt(model, made):
    spans = merge(made.nfe, 1, "equal", streams(len(made.nfe)))
    found = token_scores(model, *inputs(made), made.unmask_step, spans).sum(1)
    drawn = made.unmask_step < made.nfe[:, None]
    assert torch.equal(found, mean_field(model, *inputs(made)).where(drawn, 0.0))


@pytest.mark.parametrize("more", [0, 1, 5])
def test_as_many_segments_as_steps_are_the_exact_trajectory(model, made, more):
    """Also the recorded probabilities, since sampling was at temperature 1; further segments are empty."""
    count = int(made.nfe.max()) + more
    spans = merge(made.nfe, count, "equal", streams(len(made.nfe)))
    found = token_scores(model, *inputs(made), made.unmask_step, spans).sum(1)
    drawn = made.unmask_step < made.nfe[:, None]
    assert torch.equal(found, trajectory(model, *inputs(made), made.unmask_step, drawn))
    assert_close(found, made.log_prob_t1.where(drawn, 0.0))


def test_two_segments_with_a_random_cut_are_the_two_stage_mean_field(model, made):
    """The same draws as DiFFPO's τ, and the same probabilities; τ = 0 leaves one segment."""
    rows = len(made.nfe)
    spans = merge(made.nfe, 2, "random", streams(rows, 7))
    tau = draw_stage(made.nfe, streams(rows, 7))
    assert torch.equal(spans.first[:, 1], tau)
    assert (tau == 0).any()
    assert (tau > 0).any()
    found = token_scores(model, *inputs(made), made.unmask_step, spans).sum(1)
    drawn = made.unmask_step < made.nfe[:, None]
    assert torch.equal(found, two_stage(model, *inputs(made), made.unmask_step, tau).where(drawn, 0.0))


def test_random_cuts_are_uniform_and_independent():
    """Of two cuts over three steps: a sorted pair of equals has probability 1/9, one of different cuts 2/9."""
    nfe = torch.full((18000,), 3)
    spans = merge(nfe, 3, "random", streams(18000))
    counts = torch.bincount(spans.first[:, 1] * 3 + spans.first[:, 2], minlength=9).view(3, 3).double()
    expected = torch.triu(torch.full((3, 3), 4000.0)) - torch.diag(torch.full((3,), 2000.0))
    assert torch.all(counts[expected == 0] == 0)
    deviation = (counts - expected)[expected > 0] ** 2 / expected[expected > 0]
    assert float(deviation.sum()) < 20.5  # 99.9 %, 5 degrees of freedom


# --- some of the steps ------------------------------------------------------------------------------------------------


def test_mean_entropy_by_hand():
    step = torch.tensor([[0, 1, 0, 2], [0, 0, 1, 1]])
    entropy = torch.tensor([[1.0, 2.0, 4.0, 9.0], [0.5, 1.5, 7.0, 7.0]])
    found = mean_entropy(entropy, step, torch.tensor([3, 1]))  # the last two of the second were filled in
    assert_close(found, torch.tensor([[2.5, 2.0, 9.0, -torch.inf], [1.0, -torch.inf, -torch.inf, -torch.inf]]))


def test_steps_of_the_largest_entropy_come_first():
    step = torch.tensor([[0, 1, 0, 2], [0, 0, 1, 1]])
    entropy = torch.tensor([[1.0, 2.0, 4.0, 9.0], [0.5, 1.5, 7.0, 7.0]])
    spans = choose_steps(torch.tensor([3, 1]), 2, "entropy", streams(2), step, entropy)
    assert spans.first.tolist() == [[2, 0], [0, 0]]
    assert (spans.end - spans.first).tolist() == [[1, 1], [1, 0]]


def test_equal_entropies_take_the_earlier_step():
    step = torch.tensor([[3, 1, 0, 2]])
    spans = choose_steps(torch.tensor([4]), 3, "entropy", streams(1), step, torch.ones((1, 4)))
    assert spans.first.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("steps", "chosen"), [(8, [1, 3, 5, 7]), (4, [0, 1, 2, 3]), (10, [1, 3, 6, 8]), (3, [0, 1, 2])]
)
def test_uniform_steps_by_hand(steps, chosen):
    position = torch.arange(12)[None].clamp(max=steps)
    spans = choose_steps(torch.tensor([steps]), 4, "uniform", streams(1), position, None)
    kept = spans.end > spans.first
    assert spans.first[kept].tolist() == chosen
    assert kept.sum() == len(chosen)


def test_random_steps_are_uniform_subsets():
    nfe = torch.full((6000,), 4)
    step = torch.arange(6).clamp(max=4).expand(6000, -1)
    spans = choose_steps(nfe, 2, "random", streams(6000), step, None)
    counts = torch.bincount(spans.first[:, 0] * 6 + spans.first[:, 1], minlength=36).view(6, 6)
    pairs = [int(counts[pair]) for pair in itertools.combinations(range(4), 2)]
    assert sum(pairs) == 6000
    assert sum((n - 1000) ** 2 / 1000 for n in pairs) < 20.5  # 99.9 %, 5 degrees of freedom


@pytest.mark.parametrize("choice", ["entropy", "uniform", "random"])
def test_chosen_steps_have_their_exact_probabilities(model, made, choice):
    """In the state before the step; the others are not scored. With k ≥ T this is the whole trajectory."""
    for count in (1, 2, LENGTH):
        spans = choose_steps(made.nfe, count, choice, streams(len(made.nfe)), made.unmask_step, made.entropy)
        kept = spans.end > spans.first
        assert torch.equal(kept.sum(1), made.nfe.clamp(max=count))
        for row in range(len(made.nfe)):
            assert spans.first[row, kept[row]].unique().numel() == kept[row].sum()
        found = token_scores(model, *inputs(made), made.unmask_step, spans)
        scored = spans.scored(made.unmask_step)
        assert_close(found, made.log_prob_t1[:, None].where(scored, 0.0))
        if count == LENGTH:
            drawn = made.unmask_step < made.nfe[:, None]
            assert torch.equal(found.sum(1), trajectory(model, *inputs(made), made.unmask_step, drawn))


def test_random_steps_scaled_by_their_share_are_unbiased(model):
    """Over all subsets of k of the T steps, T/k times the mean score is the log-probability of the trajectory."""
    made = sampled(model, RandomOrder(), rows=20)
    exact = made.log_prob_t1.sum(1)
    for k in range(1, LENGTH + 1):
        estimates = []
        for subset in itertools.combinations(range(LENGTH), k):
            first = torch.tensor(subset).expand(20, -1)
            scores = token_scores(model, *inputs(made), made.unmask_step, Spans(first, first + 1))
            estimates.append(LENGTH / k * scores.sum((1, 2)))
        assert_close(torch.stack(estimates).mean(0), exact)


# --- all orders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_every_order_of_a_response(length):
    """T = 1 up to L = 6: each order's trajectory, whether scored step by step or as steps of their own."""
    model = TabularModel(2, length, 1.0, seeded(3)).requires_grad_(False)
    response = torch.arange(length)[None] % 2
    orders = torch.tensor(list(itertools.permutations(range(length))))  # the step of each position
    rows = len(orders)
    made = Completions.given(response.expand(rows, -1))
    nfe = torch.full((rows,), length)
    expected = torch.zeros(rows, length)
    for row, steps in enumerate(orders):
        for position in range(length):
            expected[row, position] = conditional(model, response, steps < steps[position])[0, position]
    merged = merge(nfe, length, "equal", streams(rows))
    chosen = choose_steps(nfe, length, "random", streams(rows), orders, None)
    for spans in (merged, chosen):
        assert_close(token_scores(model, *inputs(made), orders, spans).sum(1), expected)
