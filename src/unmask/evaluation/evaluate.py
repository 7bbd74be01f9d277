"""Evaluation of a policy: every test example at every length with every sampler, one row per sample.

The work is split into shards: consecutive examples with one sampler at one length, each with its own random stream, so
a shard does not depend on which rank computes it. Ranks share the shards, and finished ones are kept on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from unmask.common import distributed
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.config.specs import EvaluationSpec, RunSpec
from unmask.evaluation.shards import Row, ShardStore
from unmask.models.policy import Policy
from unmask.rl.generation import respond
from unmask.rl.rollouts import pieces
from unmask.samplers.completions import Completions
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import Example, Task, grade_response


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

    @property
    def tokens(self) -> int:
        """Tokens of its responses."""
        return len(self) * self.length

    def __len__(self) -> int:
        return self.examples.stop - self.examples.start


def parts(spec: EvaluationSpec, examples: int) -> list[Shard]:
    """Return all shards of an evaluation on `examples` examples, in the order of its rows."""
    shards = []
    for sampler in spec.samplers:
        for length in spec.lengths:
            for rows in pieces(slice(0, examples), spec.rows_per_batch):
                shards.append(Shard(sampler, length, rows))
    return shards


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
    shards = parts(spec, len(examples))
    mine = shards[distributed.rank() :: distributed.world()]
    missing = [shard for shard in mine if kept.read(shard.name) is None]
    name = f"{run.name} {spec.name}"
    total, left = sum(map(len, mine)), sum(map(len, missing))
    if left < total:
        print(f"{name}: resumed after {total - left} of {total} samples", flush=True)

    # Progress counts tokens rather than samples, because the time of a sample grows with its length.
    tokens = sum(shard.tokens for shard in mine)
    done = tokens - sum(shard.tokens for shard in missing)
    progress = Progress(name, tokens, done, "tokens")
    for shard in missing:
        rows = _evaluate_shard(policy, task, examples, run, spec, shard, progress.after(done))
        kept.write(shard.name, rows)
        done += shard.tokens

    # Rank 0 reads the shards of all ranks, so it must not start before the last one is written.
    distributed.barrier()
    if distributed.rank() != 0:
        return []
    return kept.join(shard.name for shard in shards)


def _evaluate_shard(
    policy: Policy,
    task: Task,
    examples: list[Example],
    run: RunSpec,
    spec: EvaluationSpec,
    shard: Shard,
    report: Callable[[int], None],
) -> list[Row]:
    """Decode and grade one shard; return its rows."""
    began = time.monotonic()
    first, chosen = shard.examples.start, examples[shard.examples]
    settings = DecodingSettings(
        length=shard.length,
        block_length=spec.block_length,
        sampler=spec.samplers[shard.sampler],
        temperature=spec.temperature,
        mask_padding=spec.mask_padding,
    )
    seeds = Seeds(("evaluate", run.seed))
    generator = seeds.generator(shard.sampler, shard.length, first, device=policy.model.device)
    made, texts = respond(policy, task, chosen, settings, generator, report)
    rows = list(_graded(policy, task, chosen, made, texts))
    seconds = round((time.monotonic() - began) / len(shard), 5)

    labels = {**_labels(run), "sampler": shard.sampler, "length": shard.length}
    return [{**labels, "example": number, **row, "seconds": seconds} for number, row in enumerate(rows, first)]


def _graded(policy: Policy, task: Task, examples: list[Example], made: Completions, texts: list[str]) -> Iterator[Row]:
    """Yield the stored columns of each response, except its labels."""
    nfe = made.nfe.tolist()
    tokens = (made.response != policy.eot).sum(1).tolist()
    # Other samplers than adaptive ones choose no threshold.
    gammas = [None] * len(texts)
    if made.gamma_logit.shape[1]:
        gammas = policy.head.gamma(made.gamma_logit).nanmean(1).tolist()

    judged = policy.judged(texts)
    for row, (example, text) in enumerate(zip(examples, texts, strict=True)):
        grade = grade_response(task, judged[row], example)
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
            "nfe": nfe[row],
            "tokens": tokens[row],
            "gamma": gammas[row],
        }


def _labels(run: RunSpec) -> Row:
    return {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
