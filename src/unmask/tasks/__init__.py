"""One task a file: its examples, prompt, reward and grade, shared by training and evaluation.

To add one: write tasks/<name>.py with one class that derives from Task, and its block in config.yaml. Tasks are
torch-free.
"""

from __future__ import annotations

import importlib
import random
from dataclasses import dataclass
from typing import Any

Example = dict[str, Any]  # a row of the canonical files: at least `question`, `answer` and `difficulty`
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Grade:
    """What an examiner says of one response."""

    answer: str | None  # what was read as the answer, None if nothing was
    published: float  # share right in [0, 1] under the papers' scoring rules
    strict: float  # 1.0 if a careful reader would call the whole answer right


@dataclass(frozen=True)
class Task:
    """A set of problems with the rules to pose, reward and grade them."""

    prefill = "<reasoning>"  # how every response begins; part of the prompt, not of the response

    def splits(self) -> dict[str, list[Example]]:
        """Examples by split, no problem in two of them."""
        raise NotImplementedError

    def messages(self, example: Example) -> list[dict[str, str]]:
        """The conversation that poses the problem, in chat format."""
        raise NotImplementedError

    def reward(self, response: str, example: Example) -> dict[str, float]:
        """The parts of the training reward; it is their sum."""
        raise NotImplementedError

    def grade(self, response: str, example: Example) -> Grade:
        """Read and judge the answer; the response may be any text."""
        raise NotImplementedError

    def demonstration(self, example: Example, length: int, right: bool, rng: random.Random) -> str:
        """A response of at most `length` tokens to learn from: right, or by a plausible shortcut (for tiny models)."""
        raise NotImplementedError


def load(name: str, settings: dict[str, Any]) -> Task:
    """The task in tasks/<name>.py with these settings."""
    module = importlib.import_module(f"unmask.tasks.{name}")
    (found,) = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Task) and v is not Task]
    return found(**settings)


def between(text: str, start: str, end: str) -> str | None:
    """What stands between the first `start` and the next `end`, None if there is no such pair."""
    _, found, rest = text.partition(start)
    inside, closed, _ = rest.partition(end)
    return inside if found and closed else None
