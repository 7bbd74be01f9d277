"""Order of the training examples: shuffled anew for each epoch, as a function of the seed and the position alone."""

from __future__ import annotations

import torch

from unmask.common.seeding import Seeds
from unmask.tasks import Example


def examples_of(buffer: int, examples: list[Example], size: int, seeds: Seeds) -> list[Example]:
    """Return the `size` training examples of a buffer, which may span two epochs."""
    # Computed from the position alone, so a resumed run needs no data-loader state.
    chosen = []
    orders: dict[int, torch.Tensor] = {}
    for position in range(buffer * size, (buffer + 1) * size):
        epoch, index = divmod(position, len(examples))
        if epoch not in orders:
            orders[epoch] = torch.randperm(len(examples), generator=seeds.generator("epoch", epoch))
        chosen.append(examples[orders[epoch][index]])
    return chosen
