"""Evaluation of a policy: every test example at every length with every sampler, one row per sample.

The work is split into shards: consecutive samples with one sampler at one length. With several samples per problem,
those of a problem follow one another. Ranks share the shards, and finished
ones are kept on disk. A rank decodes all its shards of a sampler and length from one queue: an example that ends early
makes room for the next. Every sample has its own random stream, so it does not depend on what is decoded with it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.config.specs import EvaluationSpec
from unmask.evaluation.shards import Row, ShardStore
from unmask.models.policy import Policy
from unmask.rl.generation import evaluation_prompts
from unmask.rl.rollouts import pieces
from unmask.samplers.completions import Completions
from unmask.samplers.decode import decode_as_finished
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import Example, Task, grade_response, question_of


class Evaluated(Protocol):
    """What an evaluation reads of a run, or of a released checkpoint: the labels of its rows, and the seed."""

    @property
    def name(self) -> str:
        """Name in progress lines."""

    @property
    def method(self) -> str:
        """Label of its rows, as the next three."""

    @property
    def task(self) -> str:
        """Task whose problems it answers."""

    @property
    def variant(self) -> str:
        """Settings that differ from the method's own."""

    @property
    def seed(self) -> int:
        """Seed of its random streams."""


@dataclass(frozen=True)
class Shard:
    """Shard of an evaluation: consecutive samples with one sampler at one length."""

    sampler: str
    length: int
    samples: slice

    @property
    def name(self) -> str:
        """Stem of its file."""
        return f"{self.sampler}-{self.length}-{self.samples.start:06d}"

    @property
    def tokens(self) -> int:
        """Tokens of its responses."""
        return len(self) * self.length

    @property
    def numbers(self) -> range:
        """Numbers of its samples: n · example + the sample's own, of n per problem."""
        return range(self.samples.start, self.samples.stop)

    def __len__(self) -> int:
        return len(self.numbers)


def parts(spec: EvaluationSpec, examples: int) -> list[Shard]:
    """Return all shards of an evaluation on `examples` examples, in the order of its rows."""
    shards = []
    for sampler in spec.samplers:
        for length in spec.lengths:
            for rows in pieces(slice(0, examples * spec.samples_per_problem), spec.rows_per_batch):
                shards.append(Shard(sampler, length, rows))
    return shards


def evaluate(
    policy: Policy, task: Task, examples: list[Example], run: Evaluated, spec: EvaluationSpec, kept: ShardStore
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
    prompts = evaluation_prompts(policy, task, examples, _settings(spec, shards[0].sampler, max(spec.lengths)))
    policy.model.eval()
    with policy.merged():
        for _, alike in itertools.groupby(missing, key=lambda shard: (shard.sampler, shard.length)):
            queue = list(alike)
            finished = _decode(policy, prompts, run, spec, queue, progress.after(done))
            for shard, rows in _graded_shards(policy, task, examples, run, queue, finished, spec.samples_per_problem):
                kept.write(shard.name, rows)
            done += sum(shard.tokens for shard in queue)

    # Rank 0 reads the shards of all ranks, so it must not start before the last one is written.
    distributed.barrier()
    if distributed.rank() != 0:
        return []
    return kept.join(shard.name for shard in shards)


def _settings(spec: EvaluationSpec, sampler: str, length: int) -> DecodingSettings:
    """Return how an evaluation decodes with one sampler at one length."""
    return DecodingSettings(
        length=length,
        block_length=spec.block_length,
        sampler=spec.samplers[sampler],
        temperature=spec.temperature,
        rows_per_batch=spec.rows_per_batch,
        mask_padding=spec.mask_padding,
    )


def _decode(
    policy: Policy,
    prompts: tuple[Tensor, Tensor],
    run: Evaluated,
    spec: EvaluationSpec,
    shards: list[Shard],
    report: Callable[[int], None],
) -> Iterator[tuple[list[int], Completions]]:
    """Decode shards of one sampler and length from one queue; yield responses as they finish, with their numbers.

    The samples of a shard start before those of the next, so that few shards are unfinished at a time.
    """
    sampler, length = shards[0].sampler, shards[0].length
    prompt, mask = prompts
    number = torch.tensor([number for shard in shards for number in shard.numbers], device=prompt.device)
    example = number // spec.samples_per_problem
    # A stream belongs to a sample, so it does not depend on the shards that are decoded with it. The first samples of
    # all problems are those of an evaluation with one each.
    stream = example + number % spec.samples_per_problem * len(prompt)
    streams = Seeds(("evaluate", run.seed)).streams(sampler, length, rows=stream)
    finished = decode_as_finished(
        policy.model,
        prompt[example],
        mask[example],
        _settings(spec, sampler, length),
        eot=policy.eot,
        head=policy.head,
        streams=streams,
        window=spec.rows_per_batch,
        report=report,
    )
    for rows, made in finished:
        yield number[rows].tolist(), made


def _graded_shards(
    policy: Policy,
    task: Task,
    examples: list[Example],
    run: Evaluated,
    shards: list[Shard],
    finished: Iterator[tuple[list[int], Completions]],
    each: int,
) -> Iterator[tuple[Shard, list[Row]]]:
    """Grade responses as they finish, `each` to a problem; yield each shard with its rows as soon as it is complete."""
    began = time.monotonic()
    waiting = list(shards)
    graded: dict[int, Row] = {}
    for numbers, made in finished:
        some, texts = [examples[number // each] for number in numbers], policy.texts(made.response)
        found = _graded(policy, task, some, made, texts)
        graded |= zip(numbers, found, strict=True)
        for shard in [shard for shard in waiting if all(number in graded for number in shard.numbers)]:
            waiting.remove(shard)
            # Shards overlap, so each is given the time since the one before it: together they took all the time.
            now = time.monotonic()
            seconds = round((now - began) / len(shard), 5)
            began = now
            labels = {**_labels(run), "sampler": shard.sampler, "length": shard.length}
            rows = []
            for number in shard.numbers:
                # A file with one sample per problem has no column for its number.
                place = {"example": number // each} | ({"sample": number % each} if each > 1 else {})
                rows.append({**labels, **place, **graded.pop(number), "seconds": seconds})
            yield shard, rows


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
            "prompt": question_of(example),
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
            **grade.columns,
        }


def _labels(run: Evaluated) -> Row:
    return {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
