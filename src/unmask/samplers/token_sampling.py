"""Token draws from hidden states: head, one sampled token per position, and the statistics that commit rules use.

The head is applied to a few rows at a time, so the logits of a whole batch never exist at once, and all arithmetic over
the vocabulary is fp32. A draw inverts the cumulative distribution in two levels, first over groups of tokens, then
within a group: one random number per token is enough, and the draw is exact up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unmask.common.determinism import running_sum
from unmask.common.random_streams import Streams, as_uniform
from unmask.models.logit_chunks import logit_chunk_rows
from unmask.samplers.unmasking_rules import Candidates

GROUP = 512  # tokens; vocabularies up to this size are a single group
FEWEST_ROWS = 4
NEVER = -1e30  # logit of a forbidden token: finite, so that 0 · NEVER is 0


def draw(
    model: nn.Module,
    hidden: Tensor,
    temperature: float,
    words: Tensor | None,
    *,
    top_p: float = 1.0,
    draw_dtype: str = "float32",
    drawn_entropy: bool = False,
    forbidden: Sequence[int] = (),
    unconditional: Tensor | None = None,
    guidance: float = 0.0,
) -> tuple[Tensor, Candidates]:
    """Draw a token for each row of hidden [n, D]: the argmax at temperature 0, else from softmax(logits / T).

    `words` [n] are 64 random bits for each row, None at temperature 0. [MASK] and `forbidden` are never drawn, nor are
    tokens outside the nucleus of `top_p` (see `nucleus`). If `unconditional` hidden states [n, D] are given, logits are
    (1 + w) · conditional − w · unconditional, w = `guidance`. With `draw_dtype` bfloat16 the draw is `gumbel_max`,
    otherwise it is exact up to rounding.
    Returns tokens [n] and Candidates of [n]; `drawn_entropy` is set only on request. NaN or infinite logits give a NaN
    log-probability.
    """
    rows = logit_chunk_rows(hidden.device.type, model.config.vocab_size)
    never = [model.config.mask_token_id, *forbidden]
    parts = []
    for start in range(0, len(hidden), rows):
        some = slice(start, start + rows)
        logits = by_row(model.lm_head, hidden[some]).float()
        if unconditional is not None:
            unguided = by_row(model.lm_head, unconditional[some]).float()
            logits = torch.lerp(unguided, logits, 1 + guidance)
        # One by one, because a list of indices would be uploaded to the device.
        for token_id in never:
            logits[:, token_id] = NEVER
        some_words = None if words is None else words[some]
        parts.append(_draw(logits, temperature, some_words, top_p, draw_dtype, drawn_entropy))
    token, *rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return token, Candidates(*rest)


def by_row(layers: nn.Module, x: Tensor) -> Tensor:
    """Apply linear layers to x [n, D] such that no row of the result depends on n, on a CPU."""
    # A product of fewer rows has another kernel there, which rounds differently.
    missing = FEWEST_ROWS - len(x)
    return layers(nn.functional.pad(x, (0, 0, 0, missing)))[: len(x)] if missing > 0 else layers(x)


def _draw(
    logits: Tensor,
    temperature: float,
    words: Tensor | None,
    top_p: float,
    draw_dtype: str,
    drawn_entropy: bool,
) -> tuple[Tensor, ...]:
    """Return the token and its Candidates fields, [n] each; overwrites logits [n, V]."""
    # Copied now: the logits are overwritten below.
    low = logits.bfloat16() if draw_dtype == "bfloat16" and temperature else None
    best = logits.topk(min(2, logits.shape[1]), dim=1)

    # Statistics at temperature 1. Operations are in place here and below, because over the vocabulary memory traffic
    # dominates the time. The largest shifted logit is 0, so exp cannot overflow and `total` is at least 1.
    largest, second = best.values[:, 0], best.values[:, -1]
    shifted = logits.sub_(largest[:, None])
    weight = shifted.exp()
    total = weight.sum(1)
    mean_logit = torch.linalg.vecdot(weight, shifted) / total
    entropy = (total.log() - mean_logit).clamp(min=0)
    margin = (1 - (second - largest).exp()) / total
    # If the best logit is NEVER, all allowed tokens have −∞ and nothing can be drawn; report it as NaN.
    total = total.masked_fill(largest <= NEVER, torch.nan)

    # From here on, `weight` is the sampling distribution: tempered, then cut to its nucleus.
    if temperature not in (0, 1):
        weight = torch.div(shifted, temperature, out=weight).exp_()
    if top_p < 1 and (temperature or drawn_entropy):
        weight = weight.masked_fill(~nucleus(weight, top_p), 0)
    # Another pass over the vocabulary, so only if a commit rule needs it.
    more = []
    if drawn_entropy:
        probability = weight / weight.sum(1, keepdim=True)
        more.append(torch.special.entr(probability).sum(1))
    if temperature == 0:
        token = best.indices[:, 0]
        return token, -total.log(), entropy, margin, *more
    if low is not None:
        token = gumbel_max(low.masked_fill(weight == 0, NEVER), temperature, words)
    else:
        token = pick_token(weight, as_uniform(words))
    # The record is the policy's log-probability, whatever distribution the token was drawn from.
    log_prob = shifted.gather(1, token[:, None])[:, 0] - total.log()
    return token, log_prob, entropy, margin, *more


def nucleus(weight: Tensor, top_p: float) -> Tensor:
    """Return the nucleus as a mask [n, V]: the most probable tokens until their cumulative share exceeds `top_p`.

    The token that crosses `top_p` is included. `weight` [n, V] ≥ 0 is proportional to the probabilities; ties are
    ordered by token id.
    """
    ordered, index = weight.sort(dim=1, descending=True, stable=True)
    # float64, because an fp32 sum over a large vocabulary loses the rarest tokens.
    share = running_sum(ordered, 1, torch.float64)
    before = nn.functional.pad(share[:, :-1], (1, 0))
    inside = before <= top_p * share[:, -1:]
    nothing = torch.zeros_like(weight, dtype=torch.bool)
    return nothing.scatter_(1, index, inside)


def gumbel_max(logits: Tensor, temperature: float, words: Tensor) -> Tensor:
    """Draw one index per row: argmax of exp(logit) / E^T with E = -log u, each operation rounded to the logits' dtype.

    In bfloat16, u is at most 1 - 2^-8, so E is at least 2^-8 and a token far less probable than the best one can never
    win: in effect a min-p filter. As on CUDA devices, a u that rounds to 1 becomes 0. The word of each row is the key
    of a stream with one number per column.
    """
    uniform = Streams(words).uniform(logits.shape[1]).to(logits.dtype)
    uniform = uniform.masked_fill(uniform == 1, 0)
    noise = (-uniform.log()) ** temperature
    return (logits.exp() / noise).argmax(1)


def pick_token(weight: Tensor, noise: Tensor) -> Tensor:
    """Draw one index per row [n] with probability proportional to weight [n, V] ≥ 0, from uniform `noise` [n].

    The CDF is inverted in two levels: first over groups of tokens, then within the chosen group.
    """
    rows, width = weight.shape
    if width <= GROUP:
        below = running_sum(weight, 1, torch.float64)
        return _column(below, noise)[:, 0]
    # LLaDA's 126,464 tokens are whole groups and need no padding.
    if width % GROUP:
        weight = nn.functional.pad(weight, (0, -width % GROUP))
    groups = weight.view(rows, -1, GROUP)
    size = groups.sum(2)
    below = running_sum(size, 1, torch.float64)
    chosen = _column(below, noise)

    # Within the interval of the chosen group the noise is uniform again, so its place there draws the token.
    end = below.gather(1, chosen)[:, 0]
    width_of_chosen = size.gather(1, chosen)[:, 0]
    rest = 1 - (end - noise * below[:, -1]) / width_of_chosen
    chosen = chosen[:, 0]
    inside = groups[torch.arange(rows, device=weight.device), chosen]
    below_inside = running_sum(inside, 1, torch.float64)
    return chosen * GROUP + _column(below_inside, rest.clamp(0, 1))[:, 0]


def _column(below: Tensor, noise: Tensor) -> Tensor:
    """Return the first column [n, 1] whose cumulative weight `below` [n, C] exceeds noise · total."""
    # The product may round up to the total itself, which no column exceeds; take the last column with weight then.
    total = below[:, -1:]
    last = (below < total).sum(1, keepdim=True)
    index = torch.searchsorted(below, noise[:, None] * total, right=True)
    return torch.minimum(index, last)
