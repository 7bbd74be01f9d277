"""Base model without training, evaluated like any other method as the point of comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unmask.methods import Method


@dataclass(frozen=True)
class Base(Method):
    """Method without settings or loss: a run of it is its base model."""

    label: ClassVar = "Base"
    colour: ClassVar = "#000000"
    marker: ClassVar = "o"
    dash: ClassVar = "dotted"
