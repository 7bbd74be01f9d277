"""Log-probabilities of given tokens from hidden states, without materialising the logits of all rows at once.

The head is applied to a few rows at a time. While their logits exist, the gradient with respect to the hidden states
is computed as well, so the backward pass needs neither the logits nor a second product with the head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unmask.models.logit_chunks import logit_chunk_rows


def target_log_probs(hidden: Tensor, weight: Tensor, target: Tensor, never: int) -> Tensor:
    """Return log softmax(hidden · weightᵀ)[target] [n] in fp32, from hidden [n, D], weight [V, D] and target [n].

    Token `never` (the id of [MASK]) is excluded: its probability is 0.
    """
    return _TargetLogProbs.apply(hidden, weight, target, never)


class _TargetLogProbs(torch.autograd.Function):
    """Autograd function: ∂/∂h = W[target] − Σ_v p_v W_v and ∂/∂W = (one-hot − p) hᵀ, times the upstream gradient."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, target: Tensor, never: int) -> Tensor:
        # `slope` is ∂ log p / ∂h: one vector [D] per row is kept for the backward pass in place of V logits.
        found = []
        slopes = []
        for part in _parts(hidden, weight):
            log_probs = _log_probs(hidden[part], weight, never)
            of_target = log_probs.gather(1, target[part, None])
            found.append(of_target[:, 0])
            if ctx.needs_input_grad[0]:
                residual = _residual(log_probs, target[part])
                slopes.append(residual.to(weight.dtype) @ weight)
        slope = torch.cat(slopes) if slopes else hidden[:0]
        ctx.never = never
        ctx.save_for_backward(hidden, weight, target, slope)
        if not found:
            return hidden.new_zeros(0, dtype=torch.float32)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden, weight, target, slope = ctx.saved_tensors
        for_hidden, for_weight, *_ = ctx.needs_input_grad
        to_hidden = None
        if for_hidden:
            scaled = upstream[:, None] * slope
            to_hidden = scaled.to(hidden.dtype)
        if not for_weight:
            return to_hidden, None, None, None

        # Only runs that train all weights get here. The head's gradient needs p of every row: recompute the logits.
        to_weight = torch.zeros_like(weight)
        for part in _parts(hidden, weight):
            log_probs = _log_probs(hidden[part], weight, ctx.never)
            residual = _residual(log_probs, target[part])
            residual *= upstream[part, None]
            to_weight += residual.to(hidden.dtype).T @ hidden[part]
        return to_hidden, to_weight, None, None


def _parts(hidden: Tensor, weight: Tensor) -> list[slice]:
    rows = logit_chunk_rows(weight.device.type, len(weight))
    starts = range(0, len(hidden), rows)
    return [slice(start, start + rows) for start in starts]


def _log_probs(hidden: Tensor, weight: Tensor, never: int) -> Tensor:
    logits = (hidden @ weight.T).float()
    logits[:, never] = -torch.inf
    return torch.log_softmax(logits, dim=-1)


def _residual(log_probs: Tensor, target: Tensor) -> Tensor:
    """Compute one-hot − p [n, V] in place, overwriting the log-probabilities."""
    residual = log_probs.exp_().neg_()
    ones = torch.ones_like(target, dtype=residual.dtype)
    return residual.scatter_add_(1, target[:, None], ones[:, None])
