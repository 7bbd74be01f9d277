"""Model selection: keep the last policy, or the one with the best validation accuracy. Test data is never used.

Every `validate_every` buffers the policy answers the validation problems greedily, with the sampler and length of its
rollouts. The policy with the highest accuracy is kept, the latest one on ties. The accuracy is the one that tables
report first: the papers' scoring, each answer weighted by its points. At 8B hardly any Sudoku board is completely
right, so selecting by full boards would compare zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.rl.generation import respond
from unmask.rl.rollouts import RolloutSettings
from unmask.tasks import Example, Task, grade_response


@dataclass
class BestCheckpoint:
    """Best policy so far. If `every` is 0, nothing is evaluated and the last policy is kept."""

    every: int  # buffers between two evaluations; the end of training is always evaluated
    examples: list[Example] = field(default_factory=list)
    score: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)  # trained parameters of the best policy

    def due(self, buffers: int, all_buffers: int) -> bool:
        """Return True if the policy must be evaluated after `buffers` of `all_buffers` buffers."""
        return self.every > 0 and (buffers % self.every == 0 or buffers == all_buffers)

    def evaluate(self, policy: Policy, task: Task, settings: RolloutSettings, seeds: Seeds) -> dict[str, float]:
        """Return the current accuracies and remember the policy if none before was better. A collective call."""
        found = accuracies(policy, task, self.examples, settings, seeds)
        if found["validation"] >= self.score:
            self.score = found["validation"]
            self.best = {name: value.detach().clone() for name, value in policy.trainable().items()}
        return found

    def resume(self, best: dict[str, Tensor], metrics: list[dict[str, Any]]) -> None:
        """Restore the best policy and its score from a checkpoint."""
        self.best = best
        # The score is not stored on its own; the metrics hold every accuracy measured so far.
        measured = [row["validation"] for row in metrics if row.get("validation") is not None]
        self.score = max(measured, default=-1.0)

    def restore_best(self, policy: Policy) -> None:
        """Copy the best parameters into the policy."""
        parameters = policy.trainable()
        with torch.no_grad():
            for name, value in self.best.items():
                parameters[name].copy_(value)


@torch.no_grad()
def accuracies(
    policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
) -> dict[str, float]:
    """Return the accuracy of greedy answers over all processes; the same for any world size.

    `validation` uses the papers' scoring, weighted by points; `validation_strict` counts fully right answers.
    """
    # Padding is masked here even if rollouts attend to it, so that an answer does not depend on its batch.
    decoding = replace(settings.decoding, temperature=0.0, mask_padding=True)

    # As in rollouts, each answer has its own random stream: even greedy decoding is random if the sampler's order is.
    streams = seeds.streams("validation", rows=torch.arange(len(examples), device=policy.model.device))
    mine = slice(distributed.rank(), None, distributed.world())
    asked = examples[mine]
    title = settings.name and f"{settings.name}: validation"
    progress = Progress(title, len(asked) * settings.length, unit="tokens", part=True)

    texts: list[str] = []
    # Entered by every process, even one that has nothing to decode: a sharded policy is gathered here.
    with policy.narrowed():
        if asked:
            _, texts = respond(policy, task, examples, decoding, streams, mine, report=progress.show)

    right, points, strict = 0.0, 0, 0.0
    for text, example in zip(policy.judged(texts), asked, strict=True):
        grade = grade_response(task, text, example)
        right += grade.published * grade.points
        points += grade.points
        strict += grade.strict

    sums = torch.tensor([right, points, strict], dtype=torch.float64, device="cpu")
    distributed.add([sums])
    right, points, strict = sums.tolist()
    # A share times its points is an integer only up to rounding, and the order of the sum depends on the world size.
    # Rounding off the last digits keeps ties exact, so every world size selects the same policy.
    return {"validation": round(right, 6) / points, "validation_strict": strict / len(examples)}
