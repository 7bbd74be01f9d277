"""Masked SFT: denoising cross-entropy on demonstrations.

Sources: LLaDA, arXiv 2502.09992, algorithm 2, and d1, arXiv 2504.12216. A buffer holds demonstrations in place of
rollouts: those of the task itself, or conversations of a corpus (s1K in d1). The end-of-text padding of a response is
learnt like any other token.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unmask.common import distributed
from unmask.common.errors import InputError
from unmask.common.seeding import Seeds
from unmask.config.schema.types import Fraction
from unmask.methods import Method
from unmask.models.policy import Policy
from unmask.rl.buffer_data import NoData
from unmask.rl.generation import as_rollouts
from unmask.rl.likelihoods import Copies, denoising
from unmask.rl.rollouts import Rollouts, RolloutSettings
from unmask.rl.sequences import as_sequences, conversation
from unmask.tasks import Corpus, Example, Task, name_of


@dataclass(frozen=True)
class Sft(Method):
    """Cross-entropy on masked demonstration tokens, weighted by 1/t."""

    # Demonstrations take the place of rollouts, validation is greedy, and the loss has no reference policy.
    used_if: ClassVar = {
        "temperature": "False",
        "rollout_dropout": "False",
        "reference_sync": "False",
        "reference_mix": "False",
        "right_share": "not corpus",
    }

    demonstrations = True
    right_share: Fraction  # share of correct demonstrations, for tasks that generate their own

    def usable(self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings) -> list[Example]:
        """Select examples whose demonstration fits; conversations of a corpus are truncated instead, and all are kept.

        Prints how many are left out. Raises InputError if none is left or if a conversation leaves nothing to learn.
        """
        if isinstance(task, Corpus):
            # Called for its errors: a bad row should stop the run before training starts, not when its turn comes.
            for example in examples:
                conversation(policy, task, example, settings.length)
            return examples
        texts = [task.demonstration(example, settings.length, True, random.Random(0)) for example in examples]
        sizes = [len(ids) for ids in policy.tokenizer(texts, add_special_tokens=False).input_ids]
        found = [example for example, size in zip(examples, sizes, strict=True) if size <= settings.length]
        if len(found) == len(examples):
            return examples
        longest = max(range(len(sizes)), key=sizes.__getitem__)
        said = (
            f"tasks.{name_of(task)}: {len(examples) - len(found)} of {len(examples)} demonstrations have more tokens "
            f"than generation_length, {settings.length}; the longest is row {longest + 1} with {sizes[longest]}"
        )
        if not found:
            raise InputError(f"{said}. Increase methods.sft.generation_length or train on a corpus")
        if distributed.rank() == 0:
            print(f"{said}. They are left out.", flush=True)
        return found

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """Fill a buffer with G demonstrations of each example."""
        rng = random.Random(seeds.number("demonstrations"))
        repeated = [example for example in examples for _ in range(settings.group_size)]
        if isinstance(task, Corpus):
            return as_sequences(policy, task, repeated, settings)
        texts = [task.demonstration(e, settings.length, rng.random() < self.right_share, rng) for e in repeated]
        return as_rollouts(policy, task, repeated, texts, settings)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> NoData:
        """Return nothing: the updates of a buffer share only its demonstrations."""
        return NoData()

    def refresh(self, policy: Policy, rollouts: Rollouts, buffer_data: NoData, update: int, seeds: Seeds) -> Copies:
        """Draw mask ratios t ~ U(0.001, 1) and mask tokens iid with probability t."""
        # t is bounded away from 0, because the loss is weighted by 1/t.
        drawn = rollouts.streams(seeds, "masks").uniform(rollouts.length + 1)
        noise, share = drawn.split((rollouts.length, 1), dim=1)
        rate = 1e-3 + (1 - 1e-3) * share.float()
        # In a conversation, prompt tokens share the row with the response and are never masked or counted.
        if rollouts.learnt is None:
            return Copies((noise < rate)[:, None], 1 / rate / rollouts.length)
        masked = (noise < rate) & rollouts.learnt
        return Copies(masked[:, None], 1 / rate / rollouts.learnt.sum(1, keepdim=True))

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: NoData, update_data: Copies
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute (1/L) Σ_{d masked} −log π_θ(o_d | q, õ) / t, averaged over the buffer; L counts learnt tokens."""
        score = denoising(policy.model, *rollouts.inputs, update_data)
        return -score.mean(1) / rollouts.buffer_rows, {}
