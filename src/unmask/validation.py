"""Which moment of a training is kept: the last one, or the one that did best on the validation split, never on test.

Every so many buffers the policy answers the validation problems greedily, with the sampler and length of its rollouts.
The first moment with the largest share of right answers (strict scoring) is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unmask import processes
from unmask.models.policy import Policy
from unmask.rollout import RolloutSettings, pieces, respond
from unmask.seeding import Seeds
from unmask.tasks import Example, Task, graded


@dataclass
class Validation:
    """The best moment so far. With `every` 0 nothing is looked at and the last moment is kept."""

    every: int  # buffers between two looks; the end of the training is always looked at
    examples: list[Example] = field(default_factory=list)
    score: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)  # the trained parameters then

    def due(self, buffers: int, all_buffers: int) -> bool:
        """Whether to look after so many buffers."""
        return self.every > 0 and (buffers % self.every == 0 or buffers == all_buffers)

    def look(self, policy: Policy, task: Task, settings: RolloutSettings, seeds: Seeds) -> float:
        """Share of right answers now; the policy is remembered if it is the best so far. All processes help."""
        score = accuracy(policy, task, self.examples, settings, seeds)
        if score > self.score:
            self.score = score
            self.best = {name: p.detach().clone() for name, p in policy.trainable().items()}
        return score

    def resume(self, best: dict[str, Tensor], metrics: list[dict[str, Any]]) -> None:
        """Go on from what a checkpoint holds."""
        self.best = best
        self.score = max((row["validation"] for row in metrics if row.get("validation") is not None), default=-1.0)

    def keep(self, policy: Policy) -> None:
        """Put the best moment into the policy."""
        with torch.no_grad():
            for name, value in self.best.items():
                policy.trainable()[name].copy_(value)


@torch.no_grad()
def accuracy(policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds) -> float:
    """Share of right greedy answers by the strict protocol, over all processes and the same for any number of them.

    As in rollouts, what is decoded together has a stream of random numbers of its own: some orders are random.
    """
    parts = list(pieces(slice(0, len(examples)), settings.rows_at_once or len(examples)))
    right = 0.0
    for part in parts[processes.rank() :: processes.world()]:
        _, texts = respond(
            policy,
            task,
            examples[part],
            seeds.generator("validation", part.start, device=policy.model.device),
            length=settings.length,
            block_length=settings.block_length,
            sampler=settings.sampler,
            temperature=0.0,
        )
        right += sum(graded(task, text, example).strict for text, example in zip(texts, examples[part], strict=True))
    return processes.total(right) / len(examples)
