"""The optimiser of a training: AdamW, the adaptive sampler's head at a rate of its own, and how the rates change."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unmask.config.training import Training


def adamw(parameters: dict[str, Tensor], settings: Training) -> torch.optim.Optimizer:
    """AdamW on all parameters; those of an adaptive sampler's head are named `head.` and so on.

    The head does not decay: its bias is the threshold, and zero stands for γ_max / 2, not for nothing.
    """
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
    """Clip the gradient's norm, of the head on its own: else the larger of the two would decide the step of the other.

    Returns the norms before that, as columns of the metrics; the head's only if it is trained.
    """
    head = [p for name, p in parameters.items() if name.startswith("head.")]
    others = [p for name, p in parameters.items() if not name.startswith("head.")]
    groups = {"grad_norm": others} | ({"head_grad_norm": head} if head else {})
    return {name: torch.nn.utils.clip_grad_norm_(group, largest).item() for name, group in groups.items()}


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Make each learning rate this part of what it is in the settings."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def schedule(update: int, updates: int, settings: Training) -> float:
    """Factor on the learning rate: linear warm-up, then constant, a cosine down to a tenth, or linear to zero."""
    warmup = math.ceil(settings.warmup * updates)
    if update < warmup:
        return (update + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    done = (update - warmup) / max(1, updates - warmup)
    if settings.schedule == "linear":  # the first update has the whole rate, and zero would be that after the last
        return 1 - done
    return 0.1 + 0.9 * (1 + math.cos(math.pi * done)) / 2
