"""One algorithm a file. A method is a frozen dataclass of its settings and a few functions of a buffer of rollouts.

To add one: write methods/<name>.py with one class that derives from Method, and its block in config.yaml.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unmask.models.policy import Policy
from unmask.rollout import Rollouts, RolloutSettings, roll_out
from unmask.seeding import Seeds
from unmask.tasks import Example, Task

Rows = dict[str, Tensor]  # tensors whose first axis runs over the responses of a buffer


@dataclass(frozen=True)
class Method:
    """An objective. Rows of a buffer are ordered by prompt: G responses of the first prompt, then of the next."""

    demonstrations = False  # True where `collect` takes the task's demonstrations, or those of a corpus

    def begin(self, policy: Policy) -> None:
        """Called once, when the policy is trainable: freeze what is not to be learnt. Thresholds are not, as a rule."""
        if policy.head:
            policy.head.requires_grad_(False)

    def usable(self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings) -> list[Example]:
        """The training examples that the method can learn from, all as a rule. Called once, before training starts."""
        return examples

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """Fill a buffer: G responses to each example, sampled from the policy unless the method has others."""
        return roll_out(policy, task, examples, settings, seeds)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """What is computed once per buffer and stays fixed for its `updates`: weights, advantages, old log-probs."""
        raise NotImplementedError

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """What is new at each of a buffer's updates (0, 1, …): mask draws, say. Drawn for all rows at once."""
        return {}

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of each given row [b], to be summed over the buffer, and metrics [b], to be averaged over it.

        The rows may be any part of the buffer: normalise by numbers from `prepare`, not by the size of the part.
        """
        raise NotImplementedError

    def losses(
        self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Terms whose sum is `loss`; each is differentiated, and its memory freed, before the next is formed.

        Each metric is in one of them, so that their sum is right as well.
        """
        yield self.loss(policy, rollouts, fixed, fresh)


def load(name: str, settings: dict[str, Any]) -> Method:
    """The method in methods/<name>.py with these settings."""
    module = importlib.import_module(f"unmask.methods.{name}")
    (found,) = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Method) and v is not Method]
    return found(**settings)
