"""Masked SFT: denoising cross-entropy on demonstrations.

Sources: LLaDA, arXiv 2502.09992, algorithm 2, and d1, arXiv 2504.12216. A buffer holds demonstrations in place of
rollouts: those of the task itself, or conversations of a corpus (s1K in d1). The end-of-text padding of a response is
learnt like any other token.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from unmask import rl
from unmask.common.errors import InputError
from unmask.config.schema.types import Fraction
from unmask.methods import Method
from unmask.rl.buffer_data import NoData
from unmask.tasks import Corpus, name_of

if TYPE_CHECKING:
    from torch import Tensor

    from unmask.common.seeding import Seeds
    from unmask.models.policy import Policy
    from unmask.rl.likelihoods import Copies
    from unmask.rl.rollouts import Rollouts, RolloutSettings
    from unmask.tasks import Example, Task


@dataclass(frozen=True)
class Sft(Method):
    """Cross-entropy on masked demonstration tokens, weighted by 1/t."""

    label: ClassVar = "SFT"
    colour: ClassVar = "#009988"
    marker: ClassVar = "v"
    dash: ClassVar = "dash-dotted"
    citation: ClassVar = (
        "Shen Nie, Fengqi Zhu, Zebin You, Xiaolu Zhang, Jingyang Ou, Jun Hu, Jun Zhou, Yankai Lin, Ji-Rong Wen, "
        "Chongxuan Li: arXiv 2502.09992 (LLaDA)"
    )
    # Demonstrations take the place of rollouts, validation is greedy, and the loss has no reference policy.
    used_if: ClassVar = {
        "temperature": "False",
        "rollout_dropout": "False",
        "reference_sync": "False",
        "reference_mix": "False",
        "right_share": "not corpus",
    }

    demonstrations: ClassVar = True

    right_share: Fraction = 1.0  # share of correct demonstrations, for tasks that generate their own

    def usable(self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings) -> list[Example]:
        """Select examples whose demonstration fits; conversations of a corpus are truncated instead, and all are kept.

        Prints how many are left out. Raises InputError if none is left or if a conversation leaves nothing to learn.
        """
        if isinstance(task, Corpus):
            # Called for its errors: a bad row should stop the run before training starts, not when its turn comes.
            for example in examples:
                rl.sequences.conversation(policy, task, example, settings.length)
            return examples

        texts = [task.demonstration(example, settings.length, True, random.Random(0)) for example in examples]
        sizes = [len(ids) for ids in policy.tokenizer(texts, add_special_tokens=False).input_ids]
        fitting = [example for example, size in zip(examples, sizes, strict=True) if size <= settings.length]
        if len(fitting) < len(examples):
            _report(task, sizes, settings.length)
        return fitting

    def collect(
        self, policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds
    ) -> Rollouts:
        """Fill a buffer with G demonstrations of each example."""
        repeated = [example for example in examples for _ in range(settings.group_size)]
        if isinstance(task, Corpus):
            return rl.sequences.as_sequences(policy, task, repeated, settings)

        rng = random.Random(seeds.number("demonstrations"))
        texts = []
        for example in repeated:
            is_right = rng.random() < self.right_share
            texts.append(task.demonstration(example, settings.length, is_right, rng))
        return rl.generation.as_rollouts(policy, task, repeated, texts, settings)

    def prepare(self, policy: Policy, rollouts: Rollouts, updates: int, seeds: Seeds) -> NoData:
        """Return nothing: the updates of a buffer share only its demonstrations."""
        return NoData()

    def refresh(self, policy: Policy, rollouts: Rollouts, buffer_data: NoData, update: int, seeds: Seeds) -> Copies:
        """Draw mask ratios t ~ U(0.001, 1) and mask tokens iid with probability t."""
        streams = rollouts.streams(seeds, "masks")
        return rl.likelihoods.draw_single_copies(rollouts.length, rollouts.learnt, streams)

    def loss(
        self, policy: Policy, rollouts: Rollouts, buffer_data: NoData, update_data: Copies
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute (1/L) Σ_{d masked} −log π_θ(o_d | q, õ) / t, averaged over the buffer; L counts learnt tokens."""
        score = rl.likelihoods.denoising(policy.model, *rollouts.inputs, update_data)
        return -score.mean(1) / rollouts.buffer_rows, {}


def _report(task: Task, sizes: list[int], limit: int) -> None:
    """Print how many demonstrations have more than `limit` tokens. Raises InputError if all of them have."""
    from unmask.common import distributed

    too_long = sum(size > limit for size in sizes)
    longest = max(sizes)
    row = sizes.index(longest) + 1
    message = (
        f"tasks.{name_of(task)}: {too_long} of {len(sizes)} demonstrations have more tokens than generation_length, "
        f"{limit}; the longest is row {row} with {longest}"
    )
    if too_long == len(sizes):
        raise InputError(f"{message}. Increase methods.sft.generation_length or train on a corpus")
    if distributed.rank() == 0:
        print(f"{message}. They are left out.", flush=True)
