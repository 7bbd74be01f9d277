"""Copies of a response that mask its least confident tokens, in place of random ones.

The policy reveals a response from a fully masked one on, the most confident tokens first, in a few passes; a copy then
masks the tokens that were revealed last. This is the progressive masking that DPRM (arXiv 2604.24357) puts in place of
the random masks of DMPO's loss (integrations/dmpo of DakeBU/DPRM-DLLM at 5cb9f42: eight phases, by confidence), in the
order alone. There, a row starts in a random phase with random tokens revealed and advances by one phase per update,
and the ELBOs behind the weights are progressive too. Here, every copy masks the end of one order, so that tokens
revealed first are hardly ever masked, numbers of masks are drawn as for random copies, and the ELBOs stay as they are.
The confidence is the probability of the response's own token, by which `top_k` decodes, not the largest one of its
position, and the order is that of the policy that sampled the response, not of the one in training.

Shapes as in likelihoods.py: B responses, L tokens, K masked copies.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unmask.models.policy import Policy
from unmask.rl.likelihoods import Copies, token_log_probs
from unmask.rl.rollouts import Rollouts


def confidence_ranks(policy: Policy, rollouts: Rollouts, phases: int) -> Tensor:
    """Rank the tokens of each response of a buffer [B, L] in the order in which they are revealed, from 0.

    Takes `phases` forward passes without gradient, one per token if there are fewer; ties go to the earlier token.
    """

    def ranked(part: Rollouts) -> Tensor:
        length = part.length
        rank = torch.full_like(part.response, length)
        for phase in range(phases):
            start, stop = length * phase // phases, length * (phase + 1) // phases
            if start == stop:
                continue

            # Score what is still masked, given the tokens revealed so far.
            hidden = rank == length
            noisy = part.response.masked_fill(hidden, policy.model.config.mask_token_id)
            prompt, prompt_mask, response = part.inputs
            scores = token_log_probs(policy.model, prompt, prompt_mask, noisy, response, hidden)

            # Reveal the most probable ones; the passes are as many for every row.
            order = scores.masked_fill(~hidden, -torch.inf).argsort(dim=1, descending=True, stable=True)
            revealed = torch.arange(start, stop, device=rank.device).expand(len(part), -1)
            rank.scatter_(1, order[:, : stop - start], revealed)
        return rank

    with policy.merged():
        return rollouts.map(ranked)


def in_order(copies: Copies, rank: Tensor) -> Copies:
    """Mask as many tokens of each copy [B, K, L] as before, those with the highest `rank` [B, L]; same weights."""
    count = copies.masked.sum(-1, keepdim=True)
    return Copies(rank[:, None] >= rank.shape[1] - count, copies.weight)
