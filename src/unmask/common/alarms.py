"""Causes of the collapse alarm, and what each means. Torch-free.

A number, because all columns of metrics.csv are: the column `alarm` is the sum of the causes that an update has.
"""

from __future__ import annotations

from enum import IntFlag


class Cause(IntFlag):
    """What in the metrics of a training says that it has broken down; 0 is no alarm."""

    REWARD_FELL = 1
    ACCURACY_FELL = 2
    LENGTH = 4
    PARTIAL_CREDIT = 8
    EFFECTIVE_SAMPLE_SIZE = 16
    CLIPPED = 32


# Causes that are seen in the responses, so that every method can have them; the others are about its own weights.
OUTCOMES = Cause.REWARD_FELL | Cause.ACCURACY_FELL | Cause.LENGTH | Cause.PARTIAL_CREDIT

MEANINGS = {
    Cause.REWARD_FELL: "the mean reward has lost half of what it had gained, or has fallen below its start",
    Cause.ACCURACY_FELL: "the accuracy has lost half of what it had gained, but the reward has not fallen: wrong "
    "responses earn it",
    Cause.LENGTH: "reward or accuracy has fallen, and responses are less than half or more than twice as long as at "
    "its best",
    Cause.PARTIAL_CREDIT: "nearly all responses earn a reward although they are wrong, more than at the start, and "
    "most groups have equal rewards: nothing is left to learn from",
    Cause.EFFECTIVE_SAMPLE_SIZE: "importance weights concentrate on very few samples",
    Cause.CLIPPED: "nearly all ratios or weights are clipped or clamped",
}


def name_of(cause: Cause) -> str:
    """Format a cause: `Cause.REWARD_FELL` -> `reward fell`."""
    return str(cause.name).lower().replace("_", " ")
