"""Evaluation of a released checkpoint and of its base model, one after the other in the same process.

The base is decoded again, not looked up: accuracies move by points between types of GPU and versions of a library, so
that only a difference measured in one environment says what a checkpoint adds.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from unmask.config.specs import EvaluationSpec
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.shards import Row, ShardStore
from unmask.models.adapters import load_adapter
from unmask.models.loading import check_trained
from unmask.models.policy import Policy
from unmask.models.released import kind_of
from unmask.models.threshold_head import ThresholdHead
from unmask.rl.generation import encode_prompts
from unmask.tasks import Example, Task

BASE = "base"  # label of the base model's rows, as in the workflow's own runs


@dataclass(frozen=True)
class Subject:
    """One of the two policies of such an evaluation, with the labels of its rows."""

    method: str
    task: str
    name: str
    variant: str = "default"
    seed: int = 0


def evaluate_released(
    checkpoint: Path,
    weights: Path,
    task: Task,
    examples: list[Example],
    subject: Subject,
    spec: EvaluationSpec,
    store: Callable[[str], ShardStore],
    **numbers: str,
) -> list[Row]:
    """Return the graded samples of the base model in `weights`, then those of the checkpoint; empty except on rank 0.

    `store` returns the store of finished shards of each of the two by label, `numbers` are dtype and quantisation.
    Raises InputError if the checkpoint does not fit the base model or a prompt not into the model.
    """
    policy = Policy.load(weights, None, **numbers)
    # Tokenise every prompt now, so that one that is too long fails before hours of decoding.
    encode_prompts(policy, task, examples, max(spec.lengths))
    base = replace(subject, method=BASE, name=f"{subject.name} base")
    rows = evaluate(policy, task, examples, base, spec, store(BASE))

    # An adapter goes onto the model that has just been measured. All weights replace it: never two models at once.
    if kind_of(checkpoint) == "adapter":
        check_trained(checkpoint)
        policy.adapter = load_adapter(policy.model, checkpoint)
        policy.head = ThresholdHead.load(checkpoint, policy.model.device)
    else:
        del policy
        gc.collect()
        policy = Policy.load(weights, checkpoint, **numbers)
    return rows + evaluate(policy, task, examples, subject, spec, store(subject.method))
