"""Evaluation of a policy: every test example at every length with every sampler, one row per sample.

The work is split into shards: consecutive examples with one sampler at one length, each with its own random stream, so
a shard does not depend on which rank computes it. Ranks share the shards, and finished ones are kept on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from unmask.common import distributed
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.evaluation.shards import ShardStore
from unmask.models.policy import Policy
from unmask.rl.generation import respond
from unmask.rl.rollouts import pieces
from unmask.samplers.completions import Completions
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import Example, Task, grade_response

Row = dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """Shard of an evaluation: consecutive examples with one sampler at one length."""

    sampler: str
    length: int
    examples: slice

    @property
    def name(self) -> str:
        """Stem of its file."""
        return f"{self.sampler}-{self.length}-{self.examples.start:06d}"

    def __len__(self) -> int:
        return self.examples.stop - self.examples.start


def parts(spec: EvaluationSpec, examples: int) -> list[Shard]:
    """Return all shards of an evaluation on `examples` examples, in the order of its rows."""
    some = list(pieces(slice(0, examples), spec.rows_per_batch))
    return [Shard(name, length, part) for name in spec.samplers for length in spec.lengths for part in some]


def evaluate(
    policy: Policy, task: Task, examples: list[Example], run: RunSpec, spec: EvaluationSpec, kept: ShardStore
) -> list[Row]:
    """Return the graded samples of a run's policy, ordered by sampler, length and example; empty except on rank 0.

    Each rank computes its share of the shards that are not `kept` yet. Rows are the same, bit for bit, for any world
    size and after any interruption; only `seconds` differs.
    """
    # Before the shards are split: the first adaptive sampler fixes an untrained head, whichever shards a rank computes.
    for sampler in spec.samplers.values():
        policy.add_head(sampler, Seeds(("evaluate", run.seed)).number("head"))

    # Strided, so that slow samplers and long responses spread over all ranks.
    every = parts(spec, len(examples))
    mine = every[distributed.rank() :: distributed.world()]
    missing = [part for part in mine if kept.read(part.name) is None]
    total, left, name = sum(map(len, mine)), sum(map(len, missing)), f"{run.name} {spec.name}"
    if left < total:
        print(f"{name}: resumed after {total - left} of {total} samples", flush=True)

    # Progress counts tokens rather than samples, because the time of a sample grows with its length.
    tokens = sum(len(part) * part.length for part in mine)
    done = tokens - sum(len(part) * part.length for part in missing)
    progress = Progress(name, tokens, done, "tokens")
    for part in missing:
        kept.write(part.name, _evaluate_shard(policy, task, examples, run, spec, part, progress.after(done)))
        done += len(part) * part.length

    # Rank 0 reads the shards of all ranks, so it must not start before the last one is written.
    distributed.barrier()
    return kept.join(part.name for part in every) if distributed.rank() == 0 else []


def _evaluate_shard(
    policy: Policy,
    task: Task,
    examples: list[Example],
    run: RunSpec,
    spec: EvaluationSpec,
    part: Shard,
    report: Callable[[int], None],
) -> list[Row]:
    """Decode and grade one shard; return its rows."""
    began, some, first = time.monotonic(), examples[part.examples], part.examples.start
    settings = DecodingSettings(
        length=part.length,
        block_length=spec.block_length,
        sampler=spec.samplers[part.sampler],
        temperature=spec.temperature,
        mask_padding=spec.mask_padding,
    )
    seeds = Seeds(("evaluate", run.seed))
    generator = seeds.generator(part.sampler, part.length, first, device=policy.model.device)
    made, texts = respond(policy, task, some, settings, generator, report)
    rows = list(_graded(policy, task, some, made, texts))
    seconds = round((time.monotonic() - began) / len(part), 5)
    labels = {**_labels(run), "sampler": part.sampler, "length": part.length}
    return [{**labels, "example": i, **row, "seconds": seconds} for i, row in enumerate(rows, first)]


def _graded(policy: Policy, task: Task, examples: list[Example], made: Completions, texts: list[str]) -> Iterator[Row]:
    """Yield the stored columns of each response, except its labels."""
    tokens = (made.response != policy.eot).sum(1).tolist()
    gammas = [None] * len(texts)
    if made.gamma_logit.shape[1]:
        gammas = policy.head.gamma(made.gamma_logit).nanmean(1).tolist()
    grades = [grade_response(task, text, example) for text, example in zip(policy.judged(texts), examples, strict=True)]
    made_of = zip(examples, texts, grades, made.nfe.tolist(), tokens, gammas, strict=True)
    for example, text, grade, nfe, count, gamma in made_of:
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


def _labels(run: RunSpec) -> Row:
    return {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
