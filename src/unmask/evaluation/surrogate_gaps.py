"""Gap between surrogate likelihoods and the policy they approximate, per denoising step.

For a token that the sampler committed at step t, the true conditional is π_θ(· | q, z_t). The mean-field surrogate uses
π_θ(· | q) instead. The two-stage surrogate uses π_θ(· | q) if t < τ and π_θ(· | q, z_τ) otherwise; the average over
τ ~ U{0..T−1}, with T the forward passes of the response, is computed exactly [DiFFPO, arXiv 2510.02212, Figure 2c].
Reported are KL(true ‖ surrogate) and the importance weight of the committed token, π_sur(o_d) / π_true(o_d).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.common.determinism import running_sum
from unmask.rl.rollouts import Rollouts

Row = dict[str, Any]
QUANTILES = {"weight_05": 0.05, "weight_50": 0.5, "weight_95": 0.95}


@dataclass(frozen=True)
class Gap:
    """Gap at one step t: columns are the n tokens committed there, rows the states z_0 … z_t to condition on."""

    kl: Tensor  # [t + 1, n] KL of the true conditional to that given the state
    weight: Tensor  # [t + 1, n] importance weight of the token
    two_stage: Tensor  # [t + 1, n] probability of the state under the two-stage surrogate


@torch.no_grad()
def surrogate_gaps(model: nn.Module, rollouts: Rollouts) -> list[Row]:
    """Return a row per step and surrogate: mean KL over tokens [nats], importance-weight quantiles, token count.

    The rollouts must come from a sampler that commits one token per step; `micro_batch_size` are processed at a time.
    """
    by_step: dict[int, list[Gap]] = defaultdict(list)
    for part in rollouts.parts():
        for step, gap in _gaps(model, rollouts.part(part)):
            by_step[step].append(gap)

    rows = []
    for step in sorted(by_step):
        gaps = by_step[step]
        kl = torch.cat([gap.kl for gap in gaps], 1)
        weight = torch.cat([gap.weight for gap in gaps], 1)
        two_stage = torch.cat([gap.two_stage for gap in gaps], 1)

        # Both surrogates are mixtures over the states z_0 … z_t; the mean field puts all its mass on z_0.
        mean_field = torch.zeros_like(two_stage)
        mean_field[0] = 1.0
        for surrogate, share in (("mean_field", mean_field), ("two_stage", two_stage)):
            row = {"step": step, "surrogate": surrogate, "kl": float((share * kl).sum(0).mean())}
            # Every (state, token) pair is one draw of τ and token, weighted by the probability of that state.
            row |= _weighted_quantiles(weight.flatten(), share.flatten())
            row["tokens"] = kl.shape[1]
            rows.append(row)
    return rows


def _gaps(model: nn.Module, rollouts: Rollouts) -> Iterator[tuple[int, Gap]]:
    """Yield the gap of each step at which a token was committed."""
    states = _states(model, rollouts)
    for step in range(len(states)):
        # Tokens after the end of text count in no loss, so they are left out here as well.
        here = (rollouts.unmask_step == step) & rollouts.loss_mask.bool()
        if not bool(here.any()):
            continue
        token = rollouts.response[here]
        conditionals = [model.log_probs(state[here]) for state in states[: step + 1]]
        log_probs = torch.stack(conditionals)  # [t + 1, n, V]
        true = log_probs[-1]
        committed = token.expand(step + 1, -1)[..., None]
        weight = (log_probs - true).gather(2, committed)[..., 0].exp()

        # τ is uniform over the T passes, so each z_τ with τ <= t has probability 1/T. For τ > t the token is committed
        # before its stage begins and is scored like the mean field, which adds (T − t − 1)/T to z_0.
        passes = rollouts.nfe[:, None].expand_as(here)[here]
        share = (1 / passes).expand(step + 1, -1).clone()
        share[0] += (passes - step - 1) / passes
        yield step, Gap(_kl(true, log_probs), weight, share)


def _states(model: nn.Module, rollouts: Rollouts) -> list[Tensor]:
    """Return the hidden states [B, L, D] of the partly masked responses before each step."""
    # z_t is rebuilt from the record: everything committed at step t or later is masked again.
    prompt, prompt_mask, response = rollouts.inputs
    attention = F.pad(prompt_mask, (0, response.shape[1]), value=True)
    response_columns = slice(prompt.shape[1], None)
    states = []
    for step in range(int(rollouts.nfe.max())):
        latent = response.masked_fill(rollouts.unmask_step >= step, model.config.mask_token_id)
        tokens = torch.cat((prompt, latent), dim=1)
        states.append(model.hidden_states(tokens, attention, response_columns))
    return states


def _kl(true: Tensor, other: Tensor) -> Tensor:
    """Compute KL(true ‖ other) [...] of log-probabilities [..., V]; tokens of probability zero contribute nothing."""
    # [MASK] has log-probability −∞ under both, and −∞ − (−∞) is NaN.
    terms = true.exp() * (true - other)
    return torch.where(true.isfinite(), terms, 0.0).sum(-1)


def _weighted_quantiles(values: Tensor, weight: Tensor) -> dict[str, float]:
    """Return the QUANTILES of the values under these weights."""
    order = values.argsort()
    ordered = values[order]
    below = running_sum(weight[order], 0) / weight.sum()
    found = {}
    for name, quantile in QUANTILES.items():
        # Rounding may leave the last cumulative weight below the quantile.
        index = min(int((below < quantile).sum()), len(values) - 1)
        found[name] = float(ordered[index])
    return found
