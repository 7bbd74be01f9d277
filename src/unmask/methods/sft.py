"""Masked SFT: denoising cross-entropy on demonstrations.

Sources: LLaDA, arXiv 2502.09992, algorithm 2, and d1, arXiv 2504.12216. A buffer holds demonstrations in place of
rollouts; the end-of-text padding of a response is learnt like its other tokens.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from unmask.config.kinds import Share
from unmask.likelihood import Copies, denoising
from unmask.methods import Method, Rows
from unmask.models.policy import Policy
from unmask.rollout import Rollouts, RolloutSettings, as_rollouts
from unmask.seeding import Seeds
from unmask.tasks import Example, Task


@dataclass(frozen=True)
class Sft(Method):
    """Cross-entropy on masked demonstration tokens, weighted by 1/t."""

    right_share: Share  # share of right demonstrations, for tasks that make their own

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """G demonstrations of each example."""
        rng = random.Random(seeds.number("demonstrations"))
        repeated = [example for example in examples for _ in range(settings.group_size)]
        texts = [task.demonstration(e, settings.length, rng.random() < self.right_share, rng) for e in repeated]
        return as_rollouts(policy, task, repeated, texts, settings)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> Rows:
        """Nothing stays fixed but the demonstrations."""
        return {}

    def refresh(self, policy: Policy, rollouts: Rollouts, fixed: Rows, update: int, seeds: Seeds) -> Rows:
        """Mask rates t ~ U(0.001, 1) and tokens masked iid with rate t."""
        generator = seeds.generator("masks", device=rollouts.response.device)
        rate = 1e-3 + (1 - 1e-3) * torch.rand(len(rollouts), 1, generator=generator, device=generator.device)
        noise = torch.rand(rollouts.response.shape, generator=generator, device=generator.device)
        return {"masked": (noise < rate)[:, None], "weight": 1 / rate / rollouts.length}

    def loss(self, policy: Policy, rollouts: Rollouts, fixed: Rows, fresh: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        """(1/L) Σ_{d masked} −log π_θ(o_d | q, õ) / t, as a mean over the buffer."""
        score = denoising(policy.model, *rollouts.inputs, Copies(fresh["masked"], fresh["weight"]))
        return -score.mean(1) / rollouts.buffer_rows, {}
