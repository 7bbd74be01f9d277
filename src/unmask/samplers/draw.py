"""From hidden states to drawn tokens: the head, one token a position, and what commit rules want to know of it.

The head is applied to a few rows at a time, so the logits of a whole batch never exist together, and everything over
the vocabulary is fp32: a draw compares a uniform number with cumulated probabilities, first of groups of tokens, then
within one group, which needs no noise over the vocabulary and is exact to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unmask.at_once import rows_at_once
from unmask.samplers.commit import Candidates

GROUP = 512  # tokens; vocabularies of this size and less are one group
NEVER = -1e30  # logit of a forbidden token: finite, so that 0 · NEVER is 0


def draw(
    model: nn.Module,
    hidden: Tensor,
    temperature: float,
    generator: torch.Generator,
    *,
    forbidden: Sequence[int] = (),
    unconditional: Tensor | None = None,
    guidance: float = 0.0,
) -> tuple[Tensor, Candidates]:
    """One token for each of hidden [n, D]: the most probable at temperature 0, else a draw from softmax(logits / T).

    [MASK] and `forbidden` are never drawn. With the hidden states of the unconditional model [n, D], logits are
    (1 + w) · conditional − w · unconditional, w = `guidance`.
    Returns tokens [n] and Candidates of [n]. NaN or infinite logits give a log-probability that is NaN.
    """
    rows = rows_at_once(hidden.device.type, model.config.vocab_size)
    never = [model.config.mask_token_id, *forbidden]
    parts = []
    for start in range(0, len(hidden), rows):
        some = slice(start, start + rows)
        logits = model.lm_head(hidden[some]).float()
        if unconditional is not None:
            logits = torch.lerp(model.lm_head(unconditional[some]).float(), logits, 1 + guidance)
        for one in never:  # one by one: a list of indices would have to be sent to the device
            logits[:, one] = NEVER
        parts.append(_draw(logits, temperature, generator))
    token, *rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return token, Candidates(*rest)


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Token, its log-probability, entropy and margin at temperature 1, [n] each; uses up logits [n, V]."""
    best = logits.topk(min(2, logits.shape[1]), dim=1)
    shifted = logits.sub_(best.values[:, :1])  # in place, here and below: over the vocabulary memory is time
    weight = shifted.exp()
    total = weight.sum(1)
    entropy = (total.log() - torch.linalg.vecdot(weight, shifted) / total).clamp(min=0)
    margin = (1 - (best.values[:, -1] - best.values[:, 0]).exp()) / total
    total = total.masked_fill(best.values[:, 0] <= NEVER, torch.nan)  # no token is possible: all others are −∞
    if temperature == 0:
        token = best.indices[:, 0]
        return token, -total.log(), entropy, margin
    if temperature != 1:
        weight = torch.div(shifted, temperature, out=weight).exp_()
    token = pick_token(weight, generator)
    drawn = shifted.gather(1, token[:, None])[:, 0]
    return token, drawn - total.log(), entropy, margin


def pick_token(weight: Tensor, generator: torch.Generator) -> Tensor:
    """One index a row [n], in proportion to weight [n, V] ≥ 0: inverse of the distribution function, in two levels."""
    rows, width = weight.shape
    if width <= GROUP:
        return _pick(weight, generator)
    weight = nn.functional.pad(weight, (0, -width % GROUP)) if width % GROUP else weight  # LLaDA's 126,464 fit
    groups = weight.view(rows, -1, GROUP)
    chosen = _pick(groups.sum(2), generator)
    inside = groups[torch.arange(rows, device=weight.device), chosen]
    return chosen * GROUP + _pick(inside, generator)


def _pick(weight: Tensor, generator: torch.Generator) -> Tensor:
    """The same in one level, for few columns: the first whose cumulated weight is above u · total, u ~ U[0, 1)."""
    below = weight.cumsum(1, dtype=torch.float64)
    noise = torch.rand((len(weight), 1), generator=generator, device=weight.device, dtype=torch.float64)
    # u · total may round up to the total itself; the column is then the last one that has weight.
    last = (below < below[:, -1:]).sum(1, keepdim=True)
    return torch.minimum(torch.searchsorted(below, noise * below[:, -1:], right=True), last)[:, 0]
