"""Gap between surrogate likelihoods and the policy they approximate, per denoising step.

For a token that the sampler committed at step t, the true conditional is π_θ(· | q, z_t). The mean-field surrogate uses
π_θ(· | q) instead. The two-stage surrogate uses π_θ(· | q) if t < τ and π_θ(· | q, z_τ) otherwise; the average over
τ ~ U{0..T−1}, with T the forward passes of the response, is computed exactly [DiFFPO, arXiv 2510.02212, Figure 2c].
Reported are KL(true ‖ surrogate) and the importance weight of the committed token, π_sur(o_d) / π_true(o_d).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.rl.rollouts import Rollouts

Row = dict[str, Any]
QUANTILES = {"weight_05": 0.05, "weight_50": 0.5, "weight_95": 0.95}


@torch.no_grad()
def surrogate_gaps(model: nn.Module, rollouts: Rollouts) -> list[Row]:
    """Return a row per step and surrogate: mean KL over tokens [nats], importance-weight quantiles, token count.

    The rollouts must come from a sampler that commits one token per step; `micro_batch_size` are processed at a time.
    """
    found = [_by_step(model, rollouts.part(part)) for part in rollouts.parts()]
    rows = []
    for now in range(int(rollouts.nfe.max())):
        if not (some := [part[now] for part in found if now in part]):
            continue
        # Both surrogates are mixtures over the states z_0 … z_t; the mean field puts all its mass on z_0.
        kl, weight, two_stage = (torch.cat(values, 1) for values in zip(*some, strict=True))
        mean_field = torch.zeros_like(two_stage)
        mean_field[0] = 1.0
        for surrogate, share in (("mean_field", mean_field), ("two_stage", two_stage)):
            # Every (state, token) pair is one draw of τ and token, weighted by the probability of that state.
            quantiles = _weighted_quantiles(weight.flatten(), share.flatten())
            mean = float((share * kl).sum(0).mean())
            rows.append({"step": now, "surrogate": surrogate, "kl": mean, **quantiles, "tokens": kl.shape[1]})
    return rows


def _by_step(model: nn.Module, rollouts: Rollouts) -> dict[int, tuple[Tensor, Tensor, Tensor]]:
    """Return, for each step t, KL, importance weight and two-stage probability of each state, all [t + 1, n].

    The columns are the n tokens committed at step t, the rows the states z_0 … z_t that a surrogate may condition on.
    """
    states = _states(model, rollouts)
    found = {}
    for now in range(len(states)):
        # Tokens after the end of text count in no loss, so they are left out here as well.
        here = (rollouts.unmask_step == now) & rollouts.loss_mask.bool()
        if not bool(here.any()):
            continue
        token, passes = rollouts.response[here], rollouts.nfe[:, None].expand_as(here)[here]
        log_probs = torch.stack([model.log_probs(state[here]) for state in states[: now + 1]])  # [t + 1, n, V]
        kl = _kl(log_probs[-1], log_probs)
        weight = (log_probs - log_probs[-1]).gather(2, token.expand(now + 1, -1)[..., None])[..., 0].exp()

        # τ is uniform over the T passes, so each z_τ with τ <= t has probability 1/T. For τ > t the token is committed
        # before its stage begins and is scored like the mean field, which adds (T − t − 1)/T to z_0.
        share = (1 / passes).expand(now + 1, -1).clone()
        share[0] += (passes - now - 1) / passes
        found[now] = kl, weight, share
    return found


def _states(model: nn.Module, rollouts: Rollouts) -> list[Tensor]:
    """Return the hidden states [B, L, D] of the partly masked responses before each step."""
    # z_t is rebuilt from the record: everything committed at step t or later is masked again.
    prompt, prompt_mask, response = rollouts.inputs
    attention = F.pad(prompt_mask, (0, response.shape[1]), value=True)
    response_columns = slice(prompt.shape[1], None)
    steps = range(int(rollouts.nfe.max()))
    latents = (response.masked_fill(rollouts.unmask_step >= now, model.config.mask_token_id) for now in steps)
    return [model.hidden_states(torch.cat((prompt, z), dim=1), attention, response_columns) for z in latents]


def _kl(true: Tensor, other: Tensor) -> Tensor:
    """Compute KL(true ‖ other) [...] of log-probabilities [..., V]; tokens of probability zero contribute nothing."""
    # [MASK] has log-probability −∞ under both, and −∞ − (−∞) is NaN.
    return torch.where(true.isfinite(), true.exp() * (true - other), 0.0).sum(-1)


def _weighted_quantiles(values: Tensor, weight: Tensor) -> dict[str, float]:
    order = values.argsort()
    below = weight[order].cumsum(0) / weight.sum()
    last = len(values) - 1
    return {name: float(values[order][min(last, int((below < q).sum()))]) for name, q in QUANTILES.items()}
