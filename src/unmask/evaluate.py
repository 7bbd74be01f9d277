"""Examine a policy: every test example at every length with every sampler, one row a sample."""

from __future__ import annotations

import time
from typing import Any

import torch

from unmask.models.policy import Policy
from unmask.progress import Progress
from unmask.samplers.decode import decode
from unmask.seeding import Seeds
from unmask.spec import EvaluationSpec, Run
from unmask.tasks import Example, Task

Row = dict[str, Any]


def evaluate(policy: Policy, task: Task, examples: list[Example], run: Run, spec: EvaluationSpec) -> list[Row]:
    """Samples of a run's policy with their grades; the same rows whatever the batch size when decoding is greedy."""
    policy.model.eval()
    starts = range(0, len(examples), spec.rows_per_batch)
    progress = Progress(f"{run.name} {spec.name}", len(spec.lengths) * len(spec.samplers) * len(examples))
    rows: list[Row] = []
    for length in spec.lengths:
        for name, sampler in spec.samplers.items():
            for start in starts:
                batch = examples[start : start + spec.rows_per_batch]
                generator = Seeds(("evaluate", run.seed)).generator(name, length, start)
                rows += _batch(policy, task, batch, start, length, sampler, spec, generator, {"sampler": name})
                progress.show(len(rows))
    return [{**_labels(run), **row} for row in rows]


def _batch(
    policy: Policy,
    task: Task,
    examples: list[Example],
    first: int,
    length: int,
    sampler: dict[str, Any],
    spec: EvaluationSpec,
    generator: torch.Generator,
    labels: Row,
) -> list[Row]:
    began = time.monotonic()
    prompt, prompt_mask = policy.pad([policy.prompt_ids(task.messages(e), task.prefill) for e in examples])
    made = decode(
        policy.model,
        prompt,
        prompt_mask,
        length=length,
        block_length=spec.block_length,
        sampler=sampler,
        temperature=spec.temperature,
        eot=policy.eot,
        generator=generator,
    )
    seconds = (time.monotonic() - began) / len(examples)
    tokens = (made.response != policy.eot).sum(1).tolist()
    rows = []
    for i, (text, example) in enumerate(zip(policy.texts(made.response), examples, strict=True)):
        grade = task.grade(text, example)
        rows.append({
            **labels,
            "length": length,
            "example": first + i,
            "difficulty": example["difficulty"],
            "prompt": example["question"],
            "completion": text,
            "gold": str(example["answer"]),
            "answer": grade.answer,
            "published": grade.published,
            "strict": grade.strict,
            "note": grade.note,
            "nfe": int(made.nfe[i]),
            "tokens": tokens[i],
            "seconds": round(seconds, 5),
        })  # fmt: skip
    return rows


def _labels(run: Run) -> Row:
    return {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
