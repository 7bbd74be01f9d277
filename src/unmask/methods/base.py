"""The base model itself: nothing is trained. It is evaluated like any other method, to compare with."""

from __future__ import annotations

from dataclasses import dataclass

from unmask.methods import Method


@dataclass(frozen=True)
class Base(Method):
    """No settings, no loss: a run of this method is its base model."""
