"""Shared parts of the GRPO family: token log-probabilities of old, reference and new policy, and the clipped loss.

A method supplies `draw`, the random masks of an update, and `score`, its surrogate on them. The old, reference and new
policy are scored on the same masks, so that ratios are not distorted by mask noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unmask.common.random_streams import Streams
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.rl.buffer_data import RatioBuffer, RatioUpdate
from unmask.rl.losses import clipped_loss, k3
from unmask.rl.rollouts import Rollouts, Rows

Draw = Callable[[Rollouts, Streams], Rows]
Score = Callable[[nn.Module, Rollouts, Rows], Tensor]


def prepare_ratios(
    policy: Policy,
    rollouts: Rollouts,
    updates: int,
    seeds: Seeds,
    draw: Draw,
    score: Score,
    advantage: Tensor,
    micro_batch_rows: int = 0,
    old: Tensor | None = None,
) -> RatioBuffer:
    """Draw masks for each update of a buffer and compute old and reference log-probabilities on them.

    `old` [B, L] is given if the log-probabilities of the policy that sampled were recorded.
    """
    noise = [draw(rollouts, rollouts.streams(seeds, "noise", update)) for update in range(updates)]

    # Without randomness (no prompt masking, say) all updates have equal masks, and scoring once is enough.
    distinct = noise
    if all(_equal(masks, noise[0]) for masks in noise):
        distinct = noise[:1]
    repeats = updates // len(distinct)
    if old is None:
        olds = [_score_all(score, policy.model, rollouts, masks) for masks in distinct] * repeats
    else:
        olds = [old] * updates
    with policy.reference():
        reference = [_score_all(score, policy.model, rollouts, masks) for masks in distinct] * repeats

    return RatioBuffer(
        advantage=advantage,
        token_weight=token_weights(rollouts.loss_mask, micro_batch_rows),
        kl=((olds[0] - reference[0]) * rollouts.loss_mask).sum(1),
        old=torch.stack(olds, 1),
        reference=torch.stack(reference, 1),
        masks={name: torch.stack([masks[name] for masks in noise], 1) for name in noise[0]},
    )


def token_weights(loss_mask: Tensor, micro_batch_rows: int) -> Tensor:
    """Compute the weight of each token of `loss_mask` [B, L] in the loss; the weights sum to 1.

    All tokens have equal weight or, with `micro_batch_rows`, all micro-batches have: the released trainers average over
    the tokens of a micro-batch, then over micro-batches, so tokens of micro-batches with short responses weigh more.
    """
    micro_batches = loss_mask.split(micro_batch_rows or len(loss_mask))
    weights = [part / part.sum() for part in micro_batches]
    return torch.cat(weights) / len(micro_batches)


def at_micro_step(buffer_data: RatioBuffer, update: int, micro_step: Tensor, count: int) -> RatioUpdate:
    """Select the values that the released codes use at an update, which index by micro-step (`count` per update).

    `micro_step` [B] is the micro-step of each row. Each row then sees only some of the updates' masks, repeatedly.
    """
    updates = buffer_data.old.shape[1]
    index = (update * count + micro_step) % updates
    return at_update(buffer_data, index)


def at_update(buffer_data: RatioBuffer, update: int | Tensor) -> RatioUpdate:
    """Select the values of an update, given as one index or one per row [B]."""
    # Indexing by (row, update) works for a shared update as well as for one per row.
    advantage = buffer_data.advantage
    row = torch.arange(len(advantage), device=advantage.device)
    return RatioUpdate(
        old=buffer_data.old[row, update],
        reference=buffer_data.reference[row, update],
        masks={name: values[row, update] for name, values in buffer_data.masks.items()},
    )


def ratio_loss(
    new: Tensor,
    rollouts: Rollouts,
    buffer_data: RatioBuffer,
    update_data: RatioUpdate,
    clip: float,
    kl_penalty: float,
    weight: Tensor | float = 1.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute weight · clipped loss + β · k3, summed over tokens under `token_weights` [b], and metrics.

    Only tokens up to the first end of text count.
    """
    advantage = buffer_data.advantage[:, None]
    gradient, clipped = clipped_loss(new, update_data.old, advantage, clip)
    # Importance weights apply to the policy gradient only, not to the KL penalty.
    penalty = kl_penalty * k3(new, update_data.reference)
    per_token = weight * gradient + penalty
    rows = (per_token * buffer_data.token_weight).sum(1)

    mask = rollouts.loss_mask
    share = (clipped * mask).sum(1) / mask.sum(1)
    return rows, {"kl": buffer_data.kl, "clipped": share}


def _equal(one: Rows, other: Rows) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def _score_all(score: Score, model: nn.Module, rollouts: Rollouts, noise: Rows) -> Tensor:
    """Score the whole buffer [B, L] on these masks, in parts and without gradients."""
    names = list(noise)

    def scored(part: Rollouts, *values: Tensor) -> Tensor:
        masks = dict(zip(names, values, strict=True))
        return score(model, part, masks)

    return rollouts.map(scored, *noise.values())
