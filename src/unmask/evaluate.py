"""Examine a policy: every test example at every length with every sampler, one row a sample."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from unmask.models.policy import Policy
from unmask.progress import Progress
from unmask.rollout import respond
from unmask.samplers.completions import Completions
from unmask.seeding import Seeds
from unmask.spec import EvaluationSpec, Run
from unmask.tasks import Example, Task, graded

Row = dict[str, Any]


def evaluate(policy: Policy, task: Task, examples: list[Example], run: Run, spec: EvaluationSpec) -> list[Row]:
    """Samples of a run's policy with their grades; the same rows whatever the batch size when decoding is greedy."""
    progress = Progress(f"{run.name} {spec.name}", len(spec.lengths) * len(spec.samplers) * len(examples))
    seeds = Seeds(("evaluate", run.seed))
    rows: list[Row] = []
    for name, sampler in spec.samplers.items():
        policy.add_head(sampler, seeds.number("head"))
        for length in spec.lengths:
            began, done = time.monotonic(), len(rows)
            made, texts = respond(
                policy,
                task,
                examples,
                seeds.generator(name, length, device=policy.model.device),
                length=length,
                block_length=spec.block_length,
                sampler=sampler,
                temperature=spec.temperature,
                slots=spec.rows_per_batch,
                report=lambda finished, done=done: progress.show(done + finished),
            )
            labels = {**_labels(run), "sampler": name, "length": length}
            seconds = round((time.monotonic() - began) / len(examples), 5)
            for i, row in enumerate(_graded(policy, task, examples, made, texts)):
                rows.append({**labels, "example": i, **row, "seconds": seconds})
    return rows


def _graded(policy: Policy, task: Task, examples: list[Example], made: Completions, texts: list[str]) -> Iterator[Row]:
    """What is stored of each response."""
    tokens = (made.response != policy.eot).sum(1).tolist()
    gammas = policy.head.gamma(made.threshold).nanmean(1).tolist() if made.threshold.shape[1] else [None] * len(texts)
    for example, text, nfe, count, gamma in zip(examples, texts, made.nfe.tolist(), tokens, gammas, strict=True):
        grade = graded(task, text, example)
        yield {
            "difficulty": example["difficulty"],
            "prompt": example["question"],
            "completion": text,
            "gold": str(example["answer"]),
            "answer": grade.answer,
            "published": grade.published,
            "points": grade.points,
            "strict": grade.strict,
            "note": grade.note,
            "nfe": nfe,
            "tokens": count,
            "gamma": gamma,
        }


def _labels(run: Run) -> Row:
    return {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
