"""Exact errors of surrogates of the log-ratio, on a table of logits whose responses are enumerated.

A surrogate is random in its masks, in the order in which the sampler committed the tokens, or in both. On the table the
possible draws are few, so that each is scored with its probability: bias, variance and correlation are exact, without
sampling. Masks are the same for the old and the new policy, as in the methods, except where `own_masks` says otherwise.

Shapes: R = V^L responses, all of them, and n draws. Rows of a forward pass are draw-major: n · R of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.models.tabular import TabularModel, all_responses, log_likelihood, scores_by_size

Score = Callable[[TabularModel], Tensor]  # scores [n, R] of every draw under a policy


@dataclass(frozen=True)
class Part:
    """Independent part of a surrogate: `count` draws from one distribution, each with this factor, are added up."""

    score: Score
    probability: Tensor  # [n, R], or [n, 1] if it is the same for all responses; sums to 1 over the draws
    factor: float = 1.0
    count: int = 1


@dataclass(frozen=True)
class Surrogate:
    """Surrogate of log p_θ(o) as independent parts."""

    family: str
    forwards: int  # of one response under one policy
    parts: tuple[Part, ...]
    own_masks: bool = False  # the old policy is scored on masks of its own
    estimates: str = (
        ""  # `elbo` if its mean over masks is meant to be the ELBO, `path` if it scores the sampler's order
    )


@dataclass(frozen=True)
class Errors:
    """Errors of a surrogate against its target over responses of the old policy and draws, in nats."""

    mean_error: float
    bias: float  # root of the mean square, over responses, of the mean error over the draws
    variance: float  # mean over responses of the variance over the draws
    mse: float  # bias² + variance
    relative: float  # √mse over the standard deviation of the target over responses
    correlation: float  # with the target, over responses and draws


def moments(surrogate: Surrogate, new: TabularModel, old: TabularModel | None = None) -> tuple[Tensor, Tensor]:
    """Compute mean and variance [R] over the draws of log p_new − log p_old, or of log p_new alone without `old`."""
    mean, variance = torch.zeros(()), torch.zeros(())
    for part in surrogate.parts:
        scores = [part.score(new)]
        if old is not None and surrogate.own_masks:
            scores.append(-part.score(old))
        elif old is not None:
            scores[0] = scores[0] - part.score(old)
        # Scores on different masks are independent: means and variances add up.
        for score in scores:
            centre = (part.probability * score).sum(0)
            spread = (part.probability * (score - centre).square()).sum(0)
            mean = mean + part.count * part.factor * centre
            variance = variance + part.count * part.factor**2 * spread
    return mean, variance


def errors(mean: Tensor, variance: Tensor, target: Tensor, weight: Tensor) -> Errors:
    """Compare moments [R] with a target [R]; `weight` [R] are the probabilities of the responses."""
    error = mean - target
    squared_bias = float((weight * error.square()).sum())
    noise = float((weight * variance).sum())
    of_target = target - (weight * target).sum()
    of_mean = mean - (weight * mean).sum()
    spread = float((weight * of_target.square()).sum())
    total = float((weight * of_mean.square()).sum()) + noise
    shared = float((weight * of_mean * of_target).sum())
    return Errors(
        mean_error=float((weight * error).sum()),
        bias=math.sqrt(squared_bias),
        variance=noise,
        mse=squared_bias + noise,
        relative=math.sqrt((squared_bias + noise) / spread),
        # A surrogate that is constant over responses and draws has no correlation.
        correlation=shared / math.sqrt(total * spread) if total > 0 else math.nan,
    )


def response_errors(surrogate: Surrogate, new: TabularModel, old: TabularModel) -> Errors:
    """Compare the log-ratio with the exact one of the response, the average over all orders."""
    log_old = log_likelihood(old)
    return errors(*moments(surrogate, new, old), log_likelihood(new) - log_old, log_old.exp())


def elbo_errors(surrogate: Surrogate, model: TabularModel) -> Errors:
    """Compare the scores of one policy with its exact ELBO."""
    sizes = torch.arange(1, model.length + 1)[:, None]
    exact = (scores_by_size(model)[1:] / sizes).sum(0)
    return errors(*moments(surrogate, model), exact, log_likelihood(model).exp())


def inputs_of(model: TabularModel, draws: int) -> tuple[tuple[Tensor, Tensor, Tensor], int]:
    """Return prompt, prompt mask and response of all responses for each draw, and R. The prompt is one dummy token."""
    responses = all_responses(model)
    prompt = torch.zeros((draws * len(responses), 1), dtype=torch.long)
    return (prompt, torch.ones_like(prompt, dtype=torch.bool), responses.repeat(draws, 1)), len(responses)


def repeated(model: TabularModel, draws: Tensor) -> Tensor:
    """Repeat each draw [n, …] for all responses [n · R, …]."""
    return draws.repeat_interleave(model.vocabulary**model.length, 0)
