"""Random streams for tests that decode or draw masks."""

import torch

from unmask.common.random_streams import Streams


def streams(rows, seed=0):
    """A stream for each of so many rows."""
    return Streams.of(seed, torch.arange(rows))
