"""Counter-based random numbers with one stream per response: a number is a hash of its stream's key and a counter.

What is drawn for a response therefore depends on nothing else in its batch: not on the batch size, on the order of the
rows or on the number of processes. The hash is SplitMix64 [Steele, Lea and Flood, OOPSLA 2014], a few operations on
64-bit integers for a whole batch at once, with the same bits on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

WORD = 2**64


def _signed(word: int) -> int:
    """Return the signed integer with the bits of this 64-bit word; torch multiplies int64 modulo 2^64."""
    return word - WORD if word >= WORD // 2 else word


INCREMENT = _signed(0x9E3779B97F4A7C15)
FIRST_FACTOR = _signed(0xBF58476D1CE4E5B9)
SECOND_FACTOR = _signed(0x94D049BB133111EB)


@dataclass(frozen=True)
class Streams:
    """One stream of random numbers per row; all methods take and return one row of values per stream."""

    key: Tensor  # [B] int64; stream b is SplitMix64 with this seed

    @classmethod
    def of(cls, seed: int, rows: Tensor) -> Streams:
        """Create the streams with these numbers [B] in the family that belongs to `seed`."""
        return cls(_mix(rows * INCREMENT + _signed((seed + INCREMENT) % WORD)))

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, rows: Any) -> Streams:
        return Streams(self.key[rows])

    def child(self, number: int) -> Streams:
        """Return other streams, one per row, for one of several purposes."""
        return Streams(self.words(torch.full_like(self.key, number)))

    def words(self, counter: Tensor) -> Tensor:
        """Return the random 64-bit words at these positions of the streams; `counter` is [B, ...] or [1, ...]."""
        key = self.key.view(-1, *[1] * (counter.ndim - 1))
        return _mix(counter * INCREMENT + (key + INCREMENT))

    def uniform(self, *shape: int) -> Tensor:
        """Return the first numbers of each stream, uniform in [0, 1), as float64 [B, *shape]."""
        counter = torch.arange(torch.Size(shape).numel(), device=self.key.device)
        return as_uniform(self.words(counter.view(1, *shape)))


def as_uniform(word: Tensor) -> Tensor:
    """Turn random words into float64 numbers that are uniform in [0, 1), multiples of 2^-53."""
    # `>>` copies the sign bit, hence the mask.
    return ((word >> 11) & (2**53 - 1)).double().mul_(2.0**-53)


def as_normal(word: Tensor) -> Tensor:
    """Turn random words into standard normal numbers in float64."""
    # The middles of 2^52 intervals, since 0 and 1 would become infinite.
    middle = ((word >> 12) & (2**52 - 1)).double() + 0.5
    return torch.special.ndtri(middle * 2.0**-52)


def _mix(word: Tensor) -> Tensor:
    """Apply the output function of SplitMix64 in place: each input bit changes every output bit half of the time."""
    word ^= (word >> 30) & (2**34 - 1)
    word *= FIRST_FACTOR
    word ^= (word >> 27) & (2**37 - 1)
    word *= SECOND_FACTOR
    word ^= (word >> 31) & (2**33 - 1)
    return word
