"""Optimiser of a training run: AdamW with a separate learning rate for the sampler head, clipping and schedules."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unmask.config.schema.training import Training
from unmask.models.sharding import whole


def adamw(parameters: dict[str, Tensor], settings: Training) -> torch.optim.Optimizer:
    """Return AdamW over all parameters; those of an adaptive sampler's head have names that begin with `head.`."""
    policy, head = _split(parameters)
    groups = []
    if policy:
        groups.append(_group(policy, settings.learning_rate, settings.weight_decay))
    if head:
        # No weight decay: the head's bias is the threshold, and a bias of zero means γ_max / 2, not a neutral value.
        groups.append(_group(head, settings.sampler_learning_rate, 0.0))
    return torch.optim.AdamW(groups, betas=(settings.adam_beta1, settings.adam_beta2))


def clip(parameters: dict[str, Tensor], largest: float) -> dict[str, float]:
    """Clip the gradient norms of the policy and of the sampler head in place, each to at most `largest`.

    Returns the norms before clipping as metric columns; `head_grad_norm` only if a head is trained.
    """
    # Clipped separately: under a joint norm the larger gradient would set the step size of the smaller one.
    policy, head = _split(parameters)
    # The norm of sharded gradients is a sum that torch leaves divided between the ranks.
    norms = {"grad_norm": whole(torch.nn.utils.clip_grad_norm_(policy, largest)).item()}
    if head:
        norms["head_grad_norm"] = whole(torch.nn.utils.clip_grad_norm_(head, largest)).item()
    return norms


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each learning rate to `factor` times its configured value."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def schedule(update: int, updates: int, settings: Training) -> float:
    """Return the learning-rate factor: linear warm-up, then constant, cosine decay to 0.1, or linear decay to 0."""
    warmup = math.ceil(settings.warmup_ratio * updates)
    if update < warmup:
        return (update + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    # The first update after warm-up has the full rate; zero would only be reached one update past the end.
    done = (update - warmup) / max(1, updates - warmup)
    if settings.schedule == "linear":
        return 1 - done
    cosine = (1 + math.cos(math.pi * done)) / 2
    return 0.1 + 0.9 * cosine


def _split(parameters: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters of the policy and those of the sampler head."""
    policy: list[Tensor] = []
    head: list[Tensor] = []
    for name, parameter in parameters.items():
        group = head if name.startswith("head.") else policy
        group.append(parameter)
    return policy, head


def _group(parameters: list[Tensor], rate: float, decay: float) -> dict[str, Any]:
    return {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay}
