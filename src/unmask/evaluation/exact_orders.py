"""Orders, cuts and steps of the surrogates on the sampler's trajectory with their probabilities: every draw.

Orders are those of the old policy's sampler, given the response: p(σ | o) = p_old(o, σ) / p_old(o).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from unmask.common.random_streams import Streams
from unmask.evaluation.exact_errors import Errors, Part, Score, Surrogate, errors, inputs_of, repeated
from unmask.models.tabular import TabularModel, log_likelihood
from unmask.rl import likelihoods, trajectories
from unmask.rl.trajectories import Spans


def path_errors(surrogate: Surrogate, new: TabularModel, old: TabularModel) -> Errors:
    """Compare the log-ratio with the exact one of the response in the order in which the sampler wrote it.

    Only for surrogates of one part whose draws are orders, or orders and choices; each order is a unit of its own here.
    """
    (part,) = surrogate.parts
    orders = math.factorial(new.length)
    choices = len(part.probability) // orders
    exact = orders_of(new)
    target = exact.score(new) - exact.score(old)

    # An order and a response are what is given; choices of cuts or steps are the draws.
    weight = log_likelihood(old).exp() * part.probability.view(orders, choices, -1).sum(1)
    share = 1 / choices
    difference = (part.score(new) - part.score(old)).view(orders, choices, -1)
    mean = difference.mean(1)
    variance = share * (difference - mean[:, None]).square().sum(1)
    return errors(mean.flatten(), variance.flatten(), target.flatten(), weight.flatten())


def orders_of(old: TabularModel) -> Part:
    """Return the exact scores of every order, with its probability given the response under the `old` policy."""
    steps = torch.tensor(list(itertools.permutations(range(old.length))))

    def score(model: TabularModel) -> Tensor:
        inputs, responses = inputs_of(model, len(steps))
        unmask_step = repeated(model, steps)
        scored = torch.ones_like(unmask_step, dtype=torch.bool)
        return likelihoods.trajectory(model, *inputs, unmask_step, scored).sum(1).view(-1, responses)

    # The sampler draws orders uniformly, so that only the tokens' probabilities tell them apart.
    return Part(score, score(old).softmax(0))


def two_stage_part(exact: Part, length: int) -> Part:
    """Return DiFFPO's two-stage mean field: every order with every step τ ~ U{0..T − 1}."""
    steps = _orders(length)
    every_step = steps.repeat_interleave(length, 0)
    taus = torch.arange(length).repeat(len(steps))

    def score(model: TabularModel) -> Tensor:
        inputs, responses = inputs_of(model, len(taus))
        unmask_step, tau = repeated(model, every_step), repeated(model, taus)
        return likelihoods.two_stage(model, *inputs, unmask_step, tau).sum(1).view(-1, responses)

    return Part(score, _with_choices(exact, length))


def equal_cuts(length: int, count: int) -> Spans:
    """Return the spans [1, count] of equal segments."""
    unused = Streams.of(0, torch.arange(1))
    return trajectories.merge(torch.tensor([length]), count, "equal", unused)


def random_cuts(length: int, count: int) -> list[Spans]:
    """Return the spans of every draw of count − 1 cuts from {0..T − 1}, as `trajectories.merge` draws them."""
    found = []
    for cuts in itertools.product(range(length), repeat=count - 1):
        ends = [0, *sorted(cuts), length]
        found.append(Spans(torch.tensor([ends[:-1]]), torch.tensor([ends[1:]])))
    return found


def random_steps_part(exact: Part, length: int, count: int) -> Part:
    """Return a uniform subset of `count` steps, their sum times T/k, which has the mean of the whole path."""
    spans = []
    for chosen in itertools.combinations(range(length), count):
        first = torch.tensor([chosen])
        spans.append(Spans(first, first + 1))
    return spans_part(exact, length, spans, length / count)


def chosen_steps_part(exact: Part, old: TabularModel, count: int, choice: trajectories.Choice) -> Part:
    """Return the `count` steps that `trajectories.choose_steps` chooses, by entropies of the old policy; times T/k."""
    length = old.length
    steps = repeated(old, _orders(length))
    nfe = torch.full((len(steps),), length)
    # Neither choice draws from the streams.
    streams = Streams.of(0, torch.arange(len(steps)))
    spans = trajectories.choose_steps(nfe, count, choice, streams, steps, path_entropy(old, steps))
    return replace(exact, score=_span_score(steps, spans, length / count))


def path_entropy(model: TabularModel, unmask_step: Tensor) -> Tensor:
    """Compute the entropy [B, L] of the prediction for each token at the step that commits it [nats]."""
    inputs, _ = inputs_of(model, len(unmask_step) // model.vocabulary**model.length)
    response = inputs[2]
    found = torch.zeros(response.shape, dtype=model.table.dtype)
    for step in range(model.length):
        states = response.masked_fill(unmask_step >= step, model.config.mask_token_id)
        log_probs = model.log_probs(model.hidden_states(states))
        # [MASK] has probability zero; 0 · log 0 is 0.
        entropy = -(log_probs.exp() * log_probs.clamp(min=-1e9)).sum(-1)
        found = torch.where(unmask_step == step, entropy, found)
    return found


def spans_part(exact: Part, length: int, choices: list[Spans], factor: float = 1.0) -> Part:
    """Return every order with each of several equally likely sets of spans, [1, K] each."""
    steps = _orders(length).repeat_interleave(len(choices), 0)
    first = torch.cat([spans.first for spans in choices]).repeat(math.factorial(length), 1)
    end = torch.cat([spans.end for spans in choices]).repeat(math.factorial(length), 1)

    def score(model: TabularModel) -> Tensor:
        spans = Spans(repeated(model, first), repeated(model, end))
        return _span_score(repeated(model, steps), spans, factor)(model)

    return Part(score, _with_choices(exact, len(choices)))


def _span_score(steps: Tensor, spans: Spans, factor: float) -> Score:
    """Return the sum of the scores of spans [n · R, K] on orders `steps` [n · R, L]."""

    def score(model: TabularModel) -> Tensor:
        responses = model.vocabulary**model.length
        inputs, _ = inputs_of(model, len(steps) // responses)
        scores = trajectories.token_scores(model, *inputs, steps, spans)
        return factor * scores.sum((1, 2)).view(-1, responses)

    return score


def _orders(length: int) -> Tensor:
    """Return the step of each position in every order [L!, L]."""
    return torch.tensor(list(itertools.permutations(range(length))))


def _with_choices(exact: Part, choices: int) -> Tensor:
    """Return the probability of every order with each of so many equally likely choices [L! · choices, R]."""
    return exact.probability.repeat_interleave(choices, 0) / choices
