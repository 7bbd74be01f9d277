"""Rollouts: sample responses to prompts, reward them, and record what surrogates and losses need."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.common.errors import InputError
from unmask.common.progress import Progress
from unmask.common.random_streams import Streams
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.rl.rollouts import Rollouts, RolloutSettings, loss_mask
from unmask.samplers.completions import Completions
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import Example, Task, grade_response, name_of, question_of, total_reward, without_prefill


def roll_out(policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds) -> Rollouts:
    """Sample G responses per example from the policy and reward them, unless `rewarded` is false.

    Every response has its own random stream, so neither the number of processes nor `rows_per_batch` changes a draw.
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

    # Streams are numbered by the place of a response in the whole buffer, whichever process samples it.
    streams = seeds.streams("sampler", rows=torch.arange(len(prompt), device=prompt.device))

    with policy.merged():
        made = decode(
            policy.model,
            prompt[share],
            prompt_mask[share],
            settings.decoding,
            eot=policy.eot,
            head=policy.head,
            sigma=settings.sigma,
            streams=streams[share],
            report=progress.show,
        )
    whole = Completions(*(distributed.gather(getattr(made, field.name)) for field in fields(Completions)))
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
                f"context of {context}: {question_of(example)[:200]!r}. Remove the example from the data, or reduce "
                "generation_length or lengths in config.yaml."
            )
    return policy.pad(prompts)


def respond(
    policy: Policy,
    task: Task,
    examples: list[Example],
    settings: DecodingSettings,
    streams: Streams,
    share: slice = slice(None),
    **options: Any,
) -> tuple[Completions, list[str]]:
    """Generate one response for each example of a share, without dropout; return the record and the texts.

    `streams` has one stream per example, also of those outside of the share. Other options are those of `decode`.
    """
    policy.model.eval()
    prompt, mask = evaluation_prompts(policy, task, examples, settings)
    options |= {"eot": policy.eot, "head": policy.head, "streams": streams[share]}
    with policy.merged():
        made = decode(policy.model, prompt[share], mask[share], settings, **options)
    return made, policy.texts(made.response)


def evaluation_prompts(
    policy: Policy, task: Task, examples: list[Example], settings: DecodingSettings
) -> tuple[Tensor, Tensor]:
    """Return prompts [B, P] and their mask as an evaluation sees them.

    Without `mask_padding` prompts attend to their padding up to the longest of their `rows_per_batch` examples, as in
    the released evaluation of LLaDA.
    """
    prompt, mask = encode_prompts(policy, task, examples, settings.length)
    if settings.mask_padding:
        return prompt, mask
    batches = mask.sum(1).split(settings.rows_per_batch or len(mask))
    width = torch.cat([size.amax().expand_as(size) for size in batches])
    column = torch.arange(prompt.shape[1], device=prompt.device)
    return prompt, column >= prompt.shape[1] - width[:, None]


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
