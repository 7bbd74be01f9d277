"""How far surrogates are from the policy that they stand for, denoising step by denoising step.

For the token that the sampler committed at step t, the true conditional is π_θ(· | q, z_t). The mean field has
π_θ(· | q) in its place. Two-stage has π_θ(· | q) if t < τ and π_θ(· | q, z_τ) else; the average over τ ~ U{0..T−1}, T
the forward passes of the response, is taken exactly [DiFFPO, arXiv 2510.02212, Figure 2c]. Beside KL(true ‖ surrogate)
stands the importance weight of the token itself, π_sur(o_d) / π_true(o_d).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.rollout import Rollouts

Row = dict[str, Any]
QUANTILES = {"weight_05": 0.05, "weight_50": 0.5, "weight_95": 0.95}


@torch.no_grad()
def surrogate_gaps(model: nn.Module, rollouts: Rollouts) -> list[Row]:
    """A row for each step and surrogate: mean KL over tokens [nats], quantiles of the importance weight, token count.

    Of rollouts by a sampler that commits one token a step; `rows_per_forward` of them at a time.
    """
    found = [_by_step(model, rollouts.part(part)) for part in rollouts.parts()]
    rows = []
    for now in range(int(rollouts.nfe.max())):
        if not (some := [part[now] for part in found if now in part]):
            continue
        kl, weight, two_stage = (torch.cat(values, 1) for values in zip(*some, strict=True))
        mean_field = torch.zeros_like(two_stage)
        mean_field[0] = 1.0
        for surrogate, share in (("mean_field", mean_field), ("two_stage", two_stage)):
            quantiles = _weighted_quantiles(weight.flatten(), share.flatten())
            mean = float((share * kl).sum(0).mean())
            rows.append({"step": now, "surrogate": surrogate, "kl": mean, **quantiles, "tokens": kl.shape[1]})
    return rows


def _by_step(model: nn.Module, rollouts: Rollouts) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """For each step t: KL, importance weight, and how often two-stage looks at a state, all [t + 1, n].

    Of the n tokens committed at step t, and of each state z_0 … z_t that a surrogate may look at.
    """
    states = _states(model, rollouts)
    found = {}
    for now in range(len(states)):
        here = (rollouts.step == now) & rollouts.counted.bool()
        if not bool(here.any()):
            continue
        token, passes = rollouts.response[here], rollouts.nfe[:, None].expand_as(here)[here]
        log_probs = torch.stack([model.log_probs(state[here]) for state in states[: now + 1]])  # [t + 1, n, V]
        kl = _kl(log_probs[-1], log_probs)
        weight = (log_probs - log_probs[-1]).gather(2, token.expand(now + 1, -1)[..., None])[..., 0].exp()
        share = (1 / passes).expand(now + 1, -1).clone()
        share[0] += (passes - now - 1) / passes  # stages after the token was committed score it like the mean field
        found[now] = kl, weight, share
    return found


def _states(model: nn.Module, rollouts: Rollouts) -> list[Tensor]:
    """Hidden states [B, L, D] of the responses as they were before each step."""
    prompt, prompt_mask, response = rollouts.inputs
    attention = F.pad(prompt_mask, (0, response.shape[1]), value=True)
    response_columns = slice(prompt.shape[1], None)
    steps = range(int(rollouts.nfe.max()))
    latents = (response.masked_fill(rollouts.step >= now, model.config.mask_token_id) for now in steps)
    return [model.hidden_states(torch.cat((prompt, z), dim=1), attention, response_columns) for z in latents]


def _kl(true: Tensor, other: Tensor) -> Tensor:
    """KL(true ‖ other) [...] of log-probabilities [..., V]; a token that neither can produce adds nothing."""
    return torch.where(true.isfinite(), true.exp() * (true - other), 0.0).sum(-1)


def _weighted_quantiles(values: Tensor, weight: Tensor) -> dict[str, float]:
    order = values.argsort()
    below = weight[order].cumsum(0) / weight.sum()
    last = len(values) - 1
    return {name: float(values[order][min(last, int((below < q).sum()))]) for name, q in QUANTILES.items()}
