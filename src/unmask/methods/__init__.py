"""Training methods, one algorithm per file: a frozen dataclass of settings with functions of a rollout buffer.

To add a method, write methods/<name>.py with one subclass of Method and add its block to config.yaml.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.rl.buffer_data import NoData
from unmask.rl.generation import roll_out
from unmask.rl.rollouts import Rollouts, RolloutSettings
from unmask.tasks import Example, Task


@dataclass(frozen=True)
class Method:
    """Base class of training objectives.

    Rows of a buffer are ordered by prompt: G responses to the first prompt, then G to the next, and so on.
    """

    # Setting -> what it needs to have an effect, an expression of other settings as in USED_IF of schema/training.py.
    # Read from the source without importing it: config.yaml may not set what has no effect (validation/unused.py).
    used_if: ClassVar[dict[str, str]] = {}
    buffer_type: ClassVar[type] = NoData  # what `prepare` returns; a checkpoint restores it
    demonstrations = False  # True if `collect` uses demonstrations, of the task or of a corpus, not rollouts

    def begin(self, policy: Policy) -> None:
        """Freeze parameters that the method does not train, by default those of the threshold head.

        Called once after the policy is made trainable.
        """
        if policy.head:
            policy.head.requires_grad_(False)

    def usable(self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings) -> list[Example]:
        """Select the training examples the method can learn from, by default all. Called once before training."""
        return examples

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """Fill a buffer with G responses per example, by default sampled from the policy."""
        return roll_out(policy, task, examples, settings, seeds)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Any:
        """Compute what all `updates` of a buffer share: weights, advantages, old log-probabilities.

        Returns `buffer_type`, a frozen dataclass of tensors whose first axis runs over the responses.
        """
        raise NotImplementedError

    def refresh(self, policy: Policy, rollouts: Rollouts, buffer_data: Any, update: int, seeds: Seeds) -> Any:
        """Compute what is new in a given update (0, 1, …) of a buffer, such as mask draws, for all rows at once.

        Returns a dataclass like that of `prepare`.
        """
        return NoData()

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: Any, update_data: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss [b] of the given rows, summed over the buffer, and metrics [b], averaged over it.

        The rows can be any part of the buffer: normalise by values from `prepare`, not by the size of the part.
        """
        raise NotImplementedError

    def losses(
        self, policy: Policy, rollouts: Rollouts, buffer_data: Any, update_data: Any
    ) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Yield terms that sum to `loss`; each is backpropagated and its memory freed before the next is computed.

        Every metric belongs to exactly one term, so that metrics can be summed as well. The number of terms and of
        forward passes depends on the number of rows only: processes that share a model gather its layers together.
        """
        yield self.loss(policy, rollouts, buffer_data, update_data)


def load(name: str, settings: dict[str, Any]) -> Method:
    """Instantiate the method in methods/<name>.py with these settings."""
    module = importlib.import_module(f"unmask.methods.{name}")
    # Each file has exactly one subclass; more or fewer fail to unpack here.
    (found,) = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Method) and v is not Method]
    return found(**settings)
