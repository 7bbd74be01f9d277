"""Checks across the processes of a training run: an even split of the prompts, and identical parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.common.errors import InputError, TransientError
from unmask.config.schema.training import Training
from unmask.models.sharding import is_sharded


def check_shares(settings: Training, count: int) -> None:
    """Raise InputError if `count` processes cannot share the prompts of a buffer evenly."""
    prompts = settings.prompts_per_buffer
    if prompts % count:
        raise InputError(
            f"{count} processes cannot share prompts_per_buffer: {prompts}; start {math.gcd(count, prompts)}, or "
            "change this setting in config.yaml"
        )


def check_equal(parameters: dict[str, Tensor], run: str, update: int) -> None:
    """Raise TransientError on every rank unless all hold the same parameters, bit for bit."""
    # A sharded parameter exists once, so that ranks cannot differ in it.
    replicated = [p for p in parameters.values() if not is_sharded(p)]
    if distributed.world() == 1 or not replicated:
        return

    # A checksum over the bits as integers: exact in any order of summation, and one number to gather per rank.
    # Weights by position make it depend on which parameter holds which values.
    sums = [p.detach().contiguous().view(torch.int32).sum(dtype=torch.int64) for p in replicated]
    weights = torch.arange(1, len(sums) + 1, device=sums[0].device)
    found = distributed.values(int((torch.stack(sums) * weights).sum()))
    if wrong := [rank for rank, value in enumerate(found) if value != found[0]]:
        raise TransientError(
            f"{run}: after update {update} the trained parameters of process {', '.join(map(str, wrong))} differ "
            f"from those of process 0 (of {len(found)}). Start again from the last checkpoint, with the same software "
            "and GPU model for all processes; if it happens again, check for a faulty GPU."
        )
