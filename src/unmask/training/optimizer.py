"""Optimiser of a training run: AdamW with a separate learning rate for the sampler head, clipping and schedules."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unmask.config.schema.training import Training


def adamw(parameters: dict[str, Tensor], settings: Training) -> torch.optim.Optimizer:
    """Return AdamW over all parameters; those of an adaptive sampler's head have names that begin with `head.`."""
    # No weight decay on the head: its bias is the threshold, and a bias of zero means γ_max / 2, not a neutral value.
    head = [p for name, p in parameters.items() if name.startswith("head.")]
    others = [p for name, p in parameters.items() if not name.startswith("head.")]
    chosen = ((others, settings.learning_rate, settings.weight_decay), (head, settings.sampler_learning_rate, 0.0))
    groups = [
        {"params": group, "lr": rate, "initial_lr": rate, "weight_decay": decay}
        for group, rate, decay in chosen
        if group
    ]
    return torch.optim.AdamW(groups, betas=(settings.adam_beta1, settings.adam_beta2))


def clip(parameters: dict[str, Tensor], largest: float) -> dict[str, float]:
    """Clip the gradient norms of the policy and of the sampler head in place, each to at most `largest`.

    Returns the norms before clipping as metric columns; `head_grad_norm` only if a head is trained.
    """
    # Clipped separately: under a joint norm the larger gradient would set the step size of the smaller one.
    head = [p for name, p in parameters.items() if name.startswith("head.")]
    others = [p for name, p in parameters.items() if not name.startswith("head.")]
    groups = {"grad_norm": others} | ({"head_grad_norm": head} if head else {})
    return {name: torch.nn.utils.clip_grad_norm_(group, largest).item() for name, group in groups.items()}


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
    done = (update - warmup) / max(1, updates - warmup)
    # The first update after warm-up has the full rate; zero would only be reached one update past the end.
    if settings.schedule == "linear":
        return 1 - done
    return 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2
