"""Which moment of a training is kept: the last one, or the one that did best on the validation split, never on test.

Every so many buffers the policy answers the validation problems greedily, with the sampler and length of its rollouts.
The moment with the largest accuracy is kept, the latest of equal ones. It is the accuracy that tables report first: the
papers' scoring, each answer weighted by its points. At 8B hardly any Sudoku board is right as a whole, so a choice by
whole boards would be a choice among zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unmask import processes
from unmask.models.policy import Policy
from unmask.progress import Progress
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

    def look(self, policy: Policy, task: Task, settings: RolloutSettings, seeds: Seeds) -> dict[str, float]:
        """The accuracies now; the policy is remembered if none before was better. All processes help."""
        found = accuracies(policy, task, self.examples, settings, seeds)
        if found["validation"] >= self.score:
            self.score = found["validation"]
            self.best = {name: p.detach().clone() for name, p in policy.trainable().items()}
        return found

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
def accuracies(
    policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
) -> dict[str, float]:
    """Accuracy of greedy answers: `validation` by the papers' scoring and points, `validation_strict` of whole answers.

    Over all processes, and the same for any number of them. As in rollouts, what is decoded together has a stream of
    random numbers of its own: some orders are random.
    """
    parts = list(pieces(slice(0, len(examples)), settings.rows_at_once or len(examples)))
    mine = parts[processes.rank() :: processes.world()]
    tokens = sum(part.stop - part.start for part in mine) * settings.length
    progress, done = Progress(settings.name and f"{settings.name}: validation", tokens, unit="tokens", part=True), 0
    sums = torch.zeros(3, dtype=torch.float64, device="cpu")  # right points, points, right answers
    for part in mine:
        _, texts = respond(
            policy,
            task,
            examples[part],
            seeds.generator("validation", part.start, device=policy.model.device),
            length=settings.length,
            block_length=settings.block_length,
            sampler=settings.sampler,
            temperature=0.0,
            report=progress.after(done),
        )
        done += len(texts) * settings.length
        judged = zip(policy.judged(texts), examples[part], strict=True)
        grades = [graded(task, text, example) for text, example in judged]
        for grade in grades:
            sums += torch.tensor([grade.published * grade.points, grade.points, grade.strict], dtype=torch.float64)
    processes.add([sums])
    right, points, strict = sums.tolist()
    # A share times its points is a whole number only to rounding, and the order of a sum follows the number of
    # processes: without its last digits, equal moments are equal for all of them.
    return {"validation": round(right, 6) / points, "validation_strict": strict / len(examples)}
