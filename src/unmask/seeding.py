"""Random numbers that depend on what they are for, not on what was drawn before.

Every draw of a run comes from a generator named by the run's seed and a key such as ("masks", update). A resumed run
therefore draws what the uninterrupted run would have drawn, without saving any generator's state.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Seeds:
    """A source of named generators."""

    root: tuple[int | str, ...]

    def number(self, *key: int | str) -> int:
        """A 63-bit seed for this key."""
        name = repr((*self.root, *key)).encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1

    def generator(self, *key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for this key."""
        return torch.Generator(device).manual_seed(self.number(*key))

    def child(self, *key: int | str) -> Seeds:
        """Seeds for one part of the work."""
        return Seeds((*self.root, *key))
