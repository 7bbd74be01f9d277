"""Rollouts: sample responses to prompts, reward them, and record what surrogates and losses need."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.common.errors import InputError
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.rl.rollouts import Rollouts, RolloutSettings, loss_mask, pieces
from unmask.samplers.completions import Completions
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import Example, Task, grade_response, name_of, total_reward, without_prefill


def roll_out(policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds) -> Rollouts:
    """Sample G responses per example from the policy and reward them, unless `rewarded` is false.

    Every batch of `rows_per_batch` rows has its own random stream, so the result does not depend on the number of
    processes if the share of each is a multiple of `rows_per_batch`.
    """
    task = task if settings.prefill else without_prefill(task)
    repeated = [example for example in examples for _ in range(settings.group_size)]
    prompt, prompt_mask, cut = (
        x.repeat_interleave(settings.group_size, 0) for x in _prompts(policy, task, examples, settings)
    )

    # No dropout by default, so that the recorded probabilities are those of the policy itself. The released trainers of
    # d1 and DMPO sample with dropout.
    policy.model.train(settings.dropout)
    share = distributed.local_slice(len(prompt))
    tokens = (share.stop - share.start) * settings.length
    progress = Progress(settings.name and f"{settings.name}: sampling", tokens, unit="tokens", part=True)

    # Merging the adapter would bypass its dropout. Seeds depend on the first row of a batch, not on the rank, so any
    # world size draws the same tokens.
    with policy.narrowed() if settings.dropout else policy.merged():
        made = [
            decode(
                policy.model,
                prompt[rows],
                prompt_mask[rows],
                settings.decoding,
                eot=policy.eot,
                head=policy.head,
                sigma=settings.sigma,
                generator=torch.Generator(prompt.device).manual_seed(seeds.number("sampler") + rows.start),
                report=progress.after((rows.start - share.start) * settings.length),
            )
            for rows in pieces(share, settings.decoding.rows_per_batch or len(prompt))
        ]
    names = [f.name for f in fields(Completions)]
    whole = Completions(*(distributed.gather(torch.cat([getattr(part, name) for part in made])) for name in names))
    rollouts = _rewarded(policy, task, repeated, prompt, prompt_mask, whole, settings)
    return replace(rollouts, cut=cut) if settings.max_prompt_length else rollouts


def encode_prompts(
    policy: Policy, task: Task, examples: list[Example], length: int, longest: int | None = None
) -> tuple[Tensor, Tensor]:
    """Tokenize prompts to left-padded ids [B, P] and a mask (False on padding), keeping the last `longest` tokens.

    Raises InputError that names the first example whose prompt and response of `length` tokens exceed the model's
    context.
    """
    prompts = [policy.prompt_ids(task.messages(example), task.prefill) for example in examples]
    # Long prompts keep their last tokens, as in DMPO's released trainer (dmpo_trainer.py:294 at 96af1a4).
    prompts = [ids[-longest:] for ids in prompts] if longest else prompts
    context = policy.model.config.max_position_embeddings
    for ids, example in zip(prompts, examples, strict=True):
        if len(ids) + length > context:
            raise InputError(
                f"tasks.{name_of(task)}: a prompt of {len(ids)} tokens and a response of {length} exceed the model's "
                f"context of {context}: {example['question'][:200]!r}. Remove the example from the data, or reduce "
                "generation_length or lengths in config.yaml."
            )
    return policy.pad(prompts)


def respond(
    policy: Policy,
    task: Task,
    examples: list[Example],
    settings: DecodingSettings,
    generator: torch.Generator,
    report: Callable[[int], None] = lambda tokens: None,
) -> tuple[Completions, list[str]]:
    """Generate one response per example for evaluation, without dropout; return the record and the texts.

    All examples are decoded together; `report` is as for `decode`.
    """
    policy.model.eval()
    prompt, mask = encode_prompts(policy, task, examples, settings.length)
    # The released evaluation of LLaDA attends to padding.
    mask = mask if settings.mask_padding else torch.ones_like(mask)
    with policy.merged():
        made = decode(
            policy.model,
            prompt,
            mask,
            settings,
            eot=policy.eot,
            generator=generator,
            head=policy.head,
            report=report,
        )
    return made, policy.texts(made.response)


def as_rollouts(
    policy: Policy, task: Task, examples: list[Example], texts: list[str], settings: RolloutSettings
) -> Rollouts:
    """Build a buffer from given response texts: committed at step 0 with probability 1, with no forward passes."""
    prompt, prompt_mask, _ = _prompts(policy, task, examples, settings)
    response = policy.responses(texts, settings.length)
    return _rewarded(policy, task, examples, prompt, prompt_mask, Completions.given(response), settings)


def _prompts(
    policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return prompts, their mask, and which prompts lost their beginning [B]; print how many did."""
    longest = settings.max_prompt_length
    # Keep one token more than allowed at first: its presence tells which prompts are too long.
    prompt, mask = encode_prompts(policy, task, examples, settings.length, longest + 1 if longest else None)
    cut = mask.sum(1) > longest if longest else torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    if cut.any():
        prompt, mask = prompt[:, -longest:], mask[:, -longest:]
        if distributed.rank() == 0:
            said = f"{int(cut.sum())} of {len(cut)} prompts are longer than max_prompt_length, {longest} tokens"
            print(f"{settings.name}: {said}; they lose their beginning", flush=True)
    return prompt, mask if settings.decoding.mask_padding else torch.ones_like(mask), cut


def _rewarded(
    policy: Policy,
    task: Task,
    examples: list[Example],
    prompt: Tensor,
    prompt_mask: Tensor,
    made: Completions,
    settings: RolloutSettings,
) -> Rollouts:
    # Every response is decoded to text and graded in one process only; the numbers are gathered below.
    mine = distributed.local_slice(len(examples))
    pairs = list(zip(policy.judged(policy.texts(made.response[mine])), examples[mine], strict=True))
    device = prompt.device
    rewards = [total_reward(task, *pair) if settings.rewarded else math.nan for pair in pairs]
    reward = torch.tensor(rewards, dtype=torch.float32, device=device)
    correct = torch.tensor([grade_response(task, *pair).strict for pair in pairs], dtype=torch.float32, device=device)
    return Rollouts(
        prompt=prompt,
        prompt_mask=prompt_mask,
        **{f.name: getattr(made, f.name) for f in fields(made)},
        reward=distributed.gather(reward),
        correct=distributed.gather(correct),
        loss_mask=loss_mask(made.response, policy.eot),
        group_size=settings.group_size,
        buffer_rows=len(examples),
        micro_batch_size=settings.micro_batch_size,
        name=settings.name,
    )
