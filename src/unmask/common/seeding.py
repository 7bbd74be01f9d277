"""Stateless seeding: random numbers depend on their purpose, not on what was drawn before.

Every draw of a run comes from a generator derived from the run's seed and a key such as ("masks", update). A resumed
run therefore draws what the uninterrupted run would have drawn, and no generator state needs to be saved.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Seeds:
    """Source of seeds and generators that are derived from keys."""

    root: tuple[int | str, ...]

    def number(self, *key: int | str) -> int:
        """Return a 63-bit seed for this key."""
        # SHA-256 rather than `hash`, which Python randomises per process; 63 bits fit torch's signed seeds.
        name = repr((*self.root, *key))
        digest = hashlib.sha256(name.encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1

    def generator(self, *key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a fresh generator for this key."""
        seed = self.number(*key)
        return torch.Generator(device).manual_seed(seed)

    def child(self, *key: int | str) -> Seeds:
        """Return the seeds of one part of the work."""
        return Seeds((*self.root, *key))
