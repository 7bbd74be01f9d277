"""Stateless seeding: random numbers depend on their purpose, not on what was drawn before.

Every draw of a run comes from a generator, or from one stream per response, that is derived from the run's seed and a
key such as ("masks", update). A resumed run therefore draws what the uninterrupted run would have drawn, and no
generator state needs to be saved.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from unmask.common.random_streams import Streams


@dataclass(frozen=True)
class Seeds:
    """Source of seeds, generators and streams that are derived from keys."""

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

    def streams(self, *key: int | str, rows: torch.Tensor) -> Streams:
        """Return the random streams of responses with these numbers [B] for this key, on their device."""
        return Streams.of(self.number(*key), rows)

    def child(self, *key: int | str) -> Seeds:
        """Return the seeds of one part of the work."""
        return Seeds((*self.root, *key))
