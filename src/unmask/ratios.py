"""What the GRPO family shares: token log-probabilities under the old, reference and new policy, and the clipped loss.

A method brings `draw`, the random masks of one update, and `score`, its surrogate on them. The same masks serve the
old, the reference and the new policy, so that the ratio compares like with like.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unmask.methods import Rows
from unmask.models.policy import Policy
from unmask.objectives import clipped_loss, k3
from unmask.rollout import Rollouts
from unmask.seeding import Seeds

Draw = Callable[[Rollouts, torch.Generator], Rows]
Score = Callable[[nn.Module, Rollouts, Rows], Tensor]
EACH = "each."  # marks tensors [B, updates, …] that hold a value for each update of the buffer


def prepare_ratios(
    policy: Policy,
    rollouts: Rollouts,
    updates: int,
    seeds: Seeds,
    draw: Draw,
    score: Score,
    advantage: Tensor,
    micro_batch_rows: int = 0,
) -> Rows:
    """Masks, and old and reference log-probabilities on them, for each update of a buffer."""
    device = rollouts.response.device
    noise = [draw(rollouts, seeds.generator("noise", update, device=device)) for update in range(updates)]
    # Where nothing is random, one scoring serves all updates.
    distinct = noise[:1] if all(_equal(rows, noise[0]) for rows in noise) else noise
    old = [_score_all(score, policy.model, rollouts, rows) for rows in distinct] * (updates // len(distinct))
    with policy.reference():
        reference = [_score_all(score, policy.model, rollouts, rows) for rows in distinct] * (updates // len(distinct))
    fixed = {EACH + name: torch.stack([rows[name] for rows in noise], 1) for name in noise[0]}
    return fixed | {
        EACH + "old": torch.stack(old, 1),
        EACH + "reference": torch.stack(reference, 1),
        "advantage": advantage,
        "token_weight": token_weights(rollouts.counted, micro_batch_rows),
        "kl": ((old[0] - reference[0]) * rollouts.counted).sum(1),
    }


def token_weights(counted: Tensor, micro_batch_rows: int) -> Tensor:
    """The weight of each counted token [B, L] in the loss; they sum to 1.

    Every token weighs the same, or, with `micro_batch_rows`, every micro-batch: the released trainers average over the
    tokens of a device's micro-batch, then over micro-batches, so tokens weigh more where responses are short.
    """
    micro_batches = counted.split(micro_batch_rows or len(counted))
    return torch.cat([part / part.sum() for part in micro_batches]) / len(micro_batches)


def at_micro_step(fixed: Rows, update: int, micro_step: Tensor, count: int) -> Rows:
    """The values that the released codes take at an update: their index counts micro-steps, `count` of them an update.

    `micro_step` [B] says in which of them a row is. A row then meets only some of the updates' masks, again and again.
    """
    updates = fixed[EACH + "old"].shape[1]
    return at_update(fixed, (update * count + micro_step) % updates)


def at_update(fixed: Rows, update: int | Tensor) -> Rows:
    """The values of one update, or of one for each row [B]."""
    every = torch.arange(len(fixed["advantage"]), device=fixed["advantage"].device)
    return {name.removeprefix(EACH): rows[every, update] for name, rows in fixed.items() if name.startswith(EACH)}


def ratio_loss(
    new: Tensor,
    rollouts: Rollouts,
    fixed: Rows,
    fresh: Rows,
    clip: float,
    kl_penalty: float,
    weight: Tensor | float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ_d weight_d · clipped loss + β · k3 [b], summed under `token_weights`: tokens up to the first end of text."""
    per_token, clipped = clipped_loss(new, fresh["old"], fixed["advantage"][:, None], clip)
    per_token = weight * per_token + kl_penalty * k3(new, fresh["reference"])
    share = (clipped * rollouts.counted).sum(1) / rollouts.counted.sum(1)
    return (per_token * fixed["token_weight"]).sum(1), {"kl": fixed["kl"], "clipped": share}


def _equal(one: Rows, other: Rows) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def _score_all(score: Score, model: nn.Module, rollouts: Rollouts, noise: Rows) -> Tensor:
    names = list(noise)
    return rollouts.map(lambda part, *rows: score(model, part, dict(zip(names, rows, strict=True))), *noise.values())
