"""How far surrogates are from the policy that they stand for, denoising step by denoising step.

For the token that the sampler committed at step t, the true conditional is π_θ(· | q, z_t). The mean field has
π_θ(· | q) in its place. Two-stage has π_θ(· | q) if t < τ and π_θ(· | q, z_τ) else; the average over τ ~ U{0..T−1} is
taken exactly [DiFFPO, arXiv 2510.02212, Figure 2c]. Beside KL(true ‖ surrogate) stands the importance weight of the
token itself, π_sur(o_d) / π_true(o_d).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Row = dict[str, Any]
QUANTILES = {"weight_05": 0.05, "weight_50": 0.5, "weight_95": 0.95}


@torch.no_grad()
def surrogate_gaps(
    model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, step: Tensor, counted: Tensor
) -> list[Row]:
    """A row for each step and surrogate: mean KL over tokens [nats], quantiles of the importance weight, token count.

    prompt, prompt_mask [B, P]; response, step, counted [B, L], from a sampler that commits one token a step.
    """
    steps = int(step.max()) + 1
    states = _states(model, prompt, prompt_mask, response, step, steps)
    rows = []
    for now in range(steps):
        here = (step == now) & counted.bool()
        if not bool(here.any()):
            continue
        token = response[here]
        log_probs = torch.stack([model.log_probs(states[t][here]) for t in range(now + 1)])  # [t + 1, n, V]
        kl = _kl(log_probs[-1], log_probs)  # [t + 1, n]; of z_0, the mean field, first
        weight = (log_probs - log_probs[-1]).gather(2, token.expand(now + 1, -1)[..., None])[..., 0].exp()
        share = torch.full((now + 1,), 1 / steps, device=kl.device)
        share[0] += (steps - now - 1) / steps  # stages after the token was committed score it like the mean field
        for surrogate, of in (("mean_field", torch.eye(now + 1, device=kl.device)[0]), ("two_stage", share)):
            quantiles = _weighted_quantiles(weight.flatten(), of[:, None].expand_as(weight).flatten())
            mean = float((of[:, None] * kl).sum(0).mean())
            rows.append({"step": now, "surrogate": surrogate, "kl": mean, **quantiles, "tokens": len(token)})
    return rows


def _states(
    model: nn.Module, prompt: Tensor, prompt_mask: Tensor, response: Tensor, step: Tensor, steps: int
) -> list[Tensor]:
    """Hidden states [B, L, D] of the responses as they were before each step."""
    attention = F.pad(prompt_mask, (0, response.shape[1]), value=True)
    response_columns = slice(prompt.shape[1], None)
    latents = (response.masked_fill(step >= now, model.config.mask_token_id) for now in range(steps))
    return [model.hidden_states(torch.cat((prompt, z), dim=1), attention, response_columns) for z in latents]


def _kl(true: Tensor, other: Tensor) -> Tensor:
    """KL(true ‖ other) [...] of log-probabilities [..., V]; a token that neither can produce adds nothing."""
    return torch.where(true.isfinite(), true.exp() * (true - other), 0.0).sum(-1)


def _weighted_quantiles(values: Tensor, weight: Tensor) -> dict[str, float]:
    order = values.argsort()
    below = weight[order].cumsum(0) / weight.sum()
    last = len(values) - 1
    return {name: float(values[order][min(last, int((below < q).sum()))]) for name, q in QUANTILES.items()}
