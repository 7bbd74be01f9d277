"""Surrogates on the sampler's own trajectory: which steps are scored, at which of its states, in how many passes.

State z_s is the sampler's input at step s: the tokens committed before s, and masks. A span of steps [first, end) is
one forward pass at z_first, which scores the tokens that these steps committed. So spans of one step are exact, and a
longer span merges its steps: its tokens are scored as if all of them had been drawn at once.

Shapes: B responses, L tokens, K spans; `unmask_step` [B, L] and `nfe` [B], the number of steps T of each response, as
in rollouts. Tokens that were filled in after the end have step T: no span scores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unmask.common.random_streams import Streams
from unmask.rl.likelihoods import token_log_probs

Choice = Literal["entropy", "uniform", "random"]
Cut = Literal["equal", "random"]


@dataclass(frozen=True)
class Spans:
    """K spans of each response's steps, which do not overlap. One with first = end is empty and scores nothing."""

    first: Tensor  # [B, K] step at whose state the span is scored
    end: Tensor  # [B, K] the step after its last one

    def select(self, some: slice) -> Spans:
        """Return some spans of every response."""
        return Spans(self.first[:, some], self.end[:, some])

    def scored(self, unmask_step: Tensor) -> Tensor:
        """Mark the tokens [B, K, L] that each span committed."""
        step = unmask_step[:, None]
        return (step >= self.first[..., None]) & (step < self.end[..., None])

    def hidden(self, unmask_step: Tensor) -> Tensor:
        """Mark the tokens [B, K, L] that are masked in the state of each span."""
        return unmask_step[:, None] >= self.first[..., None]


# --- all steps, merged ------------------------------------------------------------------------------------------------


def merge(nfe: Tensor, count: int, cut: Cut, streams: Streams) -> Spans:
    """Cut the T steps of each response into N = `count` segments [d2-StepMerge, arXiv 2509.21474].

    `equal`: step s is in segment ⌊s N / T⌋, so that N ≥ T is the exact trajectory. `random`: the N − 1 cuts are uniform
    over {0..T − 1}, equal ones included. N = 1 is the mean field, and N = 2 with random cuts DiFFPO's two-stage mean
    field: a cut at 0 leaves one segment. Each response draws from its own one of the `streams` [B].
    """
    steps = nfe[:, None]
    number = torch.arange(1, count, device=nfe.device)
    if cut == "equal":
        # The first step s with s N / T ≥ n.
        cuts = (number * steps + count - 1) // count
    else:
        drawn = (streams.uniform(count - 1) * steps).long()
        # The product may round up to T.
        cuts = torch.minimum(drawn, (steps - 1).clamp(min=0)).sort(1).values
    return Spans(torch.cat((torch.zeros_like(steps), cuts), 1), torch.cat((cuts, steps), 1))


# --- some of the steps ------------------------------------------------------------------------------------------------


def choose_steps(
    nfe: Tensor, count: int, choice: Choice, streams: Streams, unmask_step: Tensor, entropy: Tensor | None
) -> Spans:
    """Choose k = `count` of the T steps of each response, all of them if T < k; the last spans are then empty.

    `entropy`: the steps with the largest mean entropy of what they committed, in descending order [EGSPO, arXiv
    2603.12554]; the earlier one of equals. `uniform`: the steps in the middle of k equal parts. `random`: a
    uniform subset, each response from its own one of the `streams` [B]. `entropy` [B, L] is that of the prediction for
    each token when it was drawn.
    """
    number = torch.arange(unmask_step.shape[1], device=nfe.device)
    steps = nfe[:, None]
    exists = number < steps
    if choice == "uniform":
        parts = steps.clamp(max=count)
        chosen = ((2 * number + 1) * steps) // (2 * parts.clamp(min=1))
    elif choice == "random":
        noise = streams.uniform(len(number)).masked_fill(~exists, torch.inf)
        chosen = noise.argsort(1)
    else:
        assert entropy is not None
        chosen = mean_entropy(entropy, unmask_step, nfe).argsort(dim=1, descending=True, stable=True)
    chosen = chosen[:, :count]
    if choice == "random":
        # In the order of the trajectory, so that spans of the same number are alike in different responses.
        chosen = chosen.masked_fill(~exists[:, :count], len(number)).sort(1).values
    first = chosen.masked_fill(~exists[:, :count], 0)
    return Spans(first, first + exists[:, :count].long())


def mean_entropy(entropy: Tensor, unmask_step: Tensor, nfe: Tensor) -> Tensor:
    """Average the entropy [nats] of the tokens that each step committed [B, L]; −∞ after the last step."""
    drawn = unmask_step < nfe[:, None]
    # The added column collects what was filled in.
    place = unmask_step.masked_fill(~drawn, unmask_step.shape[1])
    empty = torch.zeros((len(nfe), unmask_step.shape[1] + 1), dtype=entropy.dtype, device=nfe.device)
    total = empty.scatter_add(1, place, entropy)[:, :-1]
    tokens = empty.scatter_add(1, place, torch.ones_like(entropy))[:, :-1]
    return torch.where(tokens > 0, total / tokens.clamp(min=1), -torch.inf)


# --- scores -----------------------------------------------------------------------------------------------------------


def token_scores(
    model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, unmask_step: Tensor, spans: Spans
) -> Tensor:
    """Compute log π_θ(o_d | q, z_first) [B, K, L] of the tokens of each span, 0 elsewhere: B · K rows of one pass."""
    scored = spans.scored(unmask_step)
    k = scored.shape[1]
    responses = response.repeat_interleave(k, 0)
    noisy = responses.masked_fill(spans.hidden(unmask_step).flatten(0, 1), model.config.mask_token_id)
    prompts, prompt_masks = prompt.repeat_interleave(k, 0), prompt_mask.repeat_interleave(k, 0)
    scores = token_log_probs(model, prompts, prompt_masks, noisy, responses, scored.flatten(0, 1))
    return scores.view(scored.shape)
