"""The rows that wait to be decoded, in the order in which they are taken."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Queue:
    """Rows, the longest prompt first; rows with the same prompt are neighbours."""

    row: Tensor  # [B] where each stands among the prompts that were given
    prompt: Tensor  # [B, P]
    prompt_mask: Tensor  # [B, P]
    kind: list[int]  # rows of one kind have the same prompt
    size: list[int]  # tokens of the prompt

    @classmethod
    def of(cls, prompt: Tensor, prompt_mask: Tensor) -> Queue:
        """All rows, in order."""
        size = prompt_mask.sum(1)
        both = torch.cat((prompt, prompt_mask.to(prompt.dtype)), dim=1)
        kind = torch.unique(both, dim=0, return_inverse=True)[1]
        by_kind = kind.argsort(stable=True)
        row = by_kind[size[by_kind].argsort(descending=True, stable=True)]
        return cls(row, prompt[row], prompt_mask[row], *torch.stack((kind, size))[:, row].tolist())

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, count: int) -> Queue:
        """Remove and return the next rows, at most `count`."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, column in columns.items():
            setattr(self, name, column[count:])
        return Queue(**{name: column[:count] for name, column in columns.items()})
