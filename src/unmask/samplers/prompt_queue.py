"""Queue of rows waiting to be decoded."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Queue:
    """Waiting rows, longest prompt first; rows with the same prompt are adjacent."""

    row: Tensor  # [B] index of each row in the original batch
    prompt: Tensor  # [B, P]
    prompt_mask: Tensor  # [B, P]
    prompt_group: list[int]  # number of the distinct prompt
    size: list[int]  # prompt length in tokens

    @classmethod
    def of(cls, prompt: Tensor, prompt_mask: Tensor) -> Queue:
        """Queue all rows of a batch."""
        size = prompt_mask.sum(1)
        both = torch.cat((prompt, prompt_mask.to(prompt.dtype)), dim=1)
        prompt_group = torch.unique(both, dim=0, return_inverse=True)[1]
        # Two stable sorts: the second one keeps equal prompts adjacent, so that they share their first pass.
        by_group = prompt_group.argsort(stable=True)
        row = by_group[size[by_group].argsort(descending=True, stable=True)]
        return cls(row, prompt[row], prompt_mask[row], *torch.stack((prompt_group, size))[:, row].tolist())

    def __len__(self) -> int:
        return len(self.prompt_group)

    def take(self, count: int) -> Queue:
        """Remove and return the next rows, at most `count`."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, column in columns.items():
            setattr(self, name, column[count:])
        return Queue(**{name: column[:count] for name, column in columns.items()})
