"""Semi-autoregressive block decoding: the one loop that turns prompts into responses, in training and in evaluation.

The response starts as L mask tokens. Block after block, each step makes one forward pass, draws a token at every masked
position of the active block and lets a commit rule keep some of them. Sources: LLaDA (arXiv 2502.09992), section 2.4;
the rules are in commit.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from unmask.samplers.commit import commit


@dataclass
class Completions:
    """Responses and the record of how they were made; everything downstream needs only this."""

    response: Tensor  # [B, L] token ids
    step: Tensor  # [B, L] the forward pass (from 0) that committed each token; NFE for tokens filled in after the end
    log_prob: Tensor  # [B, L] log-probability of each token when it was drawn, at the sampling temperature
    log_prob_t1: Tensor  # [B, L] the same at temperature 1
    nfe: Tensor  # [B] forward passes spent

    def __getitem__(self, rows: Any) -> Completions:
        return Completions(*(getattr(self, f.name)[rows] for f in fields(self)))


@torch.no_grad()
def decode(
    model: torch.nn.Module,
    prompt: Tensor,
    prompt_mask: Tensor,
    *,
    length: int,
    block_length: int,
    sampler: dict[str, Any],
    temperature: float,
    eot: int,
    generator: torch.Generator,
) -> Completions:
    """Decode a response of `length` tokens for every row of `prompt` [B, P].

    A row whose finished block holds an end of text is done: what follows is end of text, at no further forward passes.
    """
    rows, width = prompt.shape
    mask_id = model.config.mask_token_id
    device = prompt.device
    out = Completions(
        response=torch.full((rows, length), mask_id, device=device),
        step=torch.zeros((rows, length), dtype=torch.long, device=device),
        log_prob=torch.zeros((rows, length), device=device),
        log_prob_t1=torch.zeros((rows, length), device=device),
        nfe=torch.zeros(rows, dtype=torch.long, device=device),
    )
    attention = None if bool(prompt_mask.all()) else torch.nn.functional.pad(prompt_mask, (0, length), value=True)
    active = torch.arange(rows, device=device)
    for start in range(0, length, block_length):
        part = out[active]
        seen = None if attention is None else attention[active]
        ids = torch.cat((prompt[active], part.response), dim=1)
        block = slice(start, start + block_length)
        columns = slice(width + start, width + start + block_length)
        masked = torch.ones((len(active), block_length), dtype=torch.bool, device=device)
        while bool(masked.any()):
            hidden = model.hidden_states(ids, seen, columns)[masked]
            token, drawn, drawn_t1 = draw(model.log_probs(hidden), temperature, generator)
            chosen = commit(sampler, masked, spread(drawn_t1, masked), generator)
            ids[:, columns] = torch.where(chosen, spread(token, masked), ids[:, columns])
            part.step[:, block] = torch.where(chosen, part.nfe[:, None], part.step[:, block])
            part.log_prob[:, block] = torch.where(chosen, spread(drawn, masked), part.log_prob[:, block])
            part.log_prob_t1[:, block] = torch.where(chosen, spread(drawn_t1, masked), part.log_prob_t1[:, block])
            part.nfe += masked.any(dim=1)
            masked &= ~chosen
        part.response = ids[:, width:]
        ended = (part.response[:, block] == eot).any(dim=1)
        rest = slice(start + block_length, None)
        part.response[:, rest].masked_fill_(ended[:, None], eot)
        part.step[:, rest] = torch.where(ended[:, None], part.nfe[:, None], part.step[:, rest])
        for field in fields(out):
            getattr(out, field.name)[active] = getattr(part, field.name)
        active = active[~ended]
        if len(active) == 0:
            break
    return out


def draw(log_probs: Tensor, temperature: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One token per row of log_probs [n, V]: the best one at temperature 0, else a draw from softmax(log_probs / T).

    Returns the tokens [n], their log-probability at this temperature [n] (0 for the best one) and at temperature 1 [n].
    """
    if temperature == 0:
        best = log_probs.max(dim=-1)
        return best.indices, torch.zeros_like(best.values), best.values
    tempered = log_probs if temperature == 1 else torch.log_softmax(log_probs / temperature, dim=-1)
    token = torch.multinomial(tempered.exp(), 1, generator=generator)
    return token[:, 0], tempered.gather(1, token)[:, 0], log_probs.gather(1, token)[:, 0]


def spread(values: Tensor, where: Tensor) -> Tensor:
    """Put values [n] at the n True places of `where` [B, K]; zero elsewhere."""
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values)
