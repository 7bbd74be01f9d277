"""Queue of rows waiting to be decoded."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Padding is dropped in steps of this many columns. On a CPU the keys of a row then fall into the same vector registers
# whatever its padding, so sums over them are rounded alike: a response has the same bits in every batch.
ALIGNMENT = 16


@dataclass
class Queue:
    """Waiting rows, longest prompt first within each window; rows with the same prompt are adjacent there."""

    row: Tensor  # [B] index of each row in the original batch
    prompt: Tensor  # [B, P]
    prompt_mask: Tensor  # [B, P]
    prompt_group: list[int]  # number of the distinct prompt
    size: list[int]  # prompt length in tokens

    @classmethod
    def of(cls, prompt: Tensor, prompt_mask: Tensor, window: int | None = None) -> Queue:
        """Queue all rows of a batch; each `window` rows, by default all, start before the rows that follow them."""
        size = prompt_mask.sum(1)
        both = torch.cat((prompt, prompt_mask.to(prompt.dtype)), dim=1)
        prompt_group = torch.unique(both, dim=0, return_inverse=True)[1]
        # Two stable sorts: the second one keeps equal prompts adjacent, so that they share their first pass.
        by_group = prompt_group.argsort(stable=True)
        row = by_group[size[by_group].argsort(descending=True, stable=True)]
        if window:
            row = row[(row // window).argsort(stable=True)]
        return cls(row, prompt[row], prompt_mask[row], *torch.stack((prompt_group, size))[:, row].tolist())

    def width(self, sizes: list[int]) -> int:
        """Return the number of columns in which prompts of these sizes are decoded together."""
        whole = self.prompt.shape[1]
        return whole - (whole - max(sizes, default=0)) // ALIGNMENT * ALIGNMENT

    def __len__(self) -> int:
        return len(self.prompt_group)

    def take(self, count: int) -> Queue:
        """Remove and return the next rows, at most `count`."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, column in columns.items():
            setattr(self, name, column[count:])
        return Queue(**{name: column[:count] for name, column in columns.items()})
