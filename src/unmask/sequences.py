"""Conversations of a corpus in place of rollouts."""

from __future__ import annotations

import random
from dataclasses import fields

import torch

from unmask.files import InputError
from unmask.models.policy import Policy
from unmask.rollout import Rollouts, RolloutSettings, counted_tokens
from unmask.samplers.completions import Completions
from unmask.tasks import Corpus, Example, name_of


def as_sequences(policy: Policy, corpus: Corpus, examples: list[Example], settings: RolloutSettings) -> Rollouts:
    """Conversations of a corpus in place of rollouts: no separate prompt, `learnt` marks the tokens after it.

    Prompts of different lengths then start at the same column and need no attention mask. There is no reward.
    """
    found = [conversation(policy, corpus, example, settings.length) for example in examples]
    response = torch.tensor([ids for ids, _ in found], device=policy.model.device)
    start = torch.tensor([asked for _, asked in found], device=policy.model.device)
    learnt = torch.arange(settings.length, device=policy.model.device) >= start[:, None]
    nothing = response[:, :0]
    unknown = torch.full((len(examples),), torch.nan, device=policy.model.device)
    given = Completions.given(response)
    return Rollouts(
        prompt=nothing,
        prompt_mask=nothing.bool(),
        **{f.name: getattr(given, f.name) for f in fields(given)},
        reward=unknown,
        correct=unknown,
        counted=counted_tokens(response.masked_fill(~learnt, -1), policy.eot) * learnt,
        group_size=settings.group_size,
        buffer_rows=len(examples),
        rows_per_forward=settings.rows_per_forward,
        learnt=learnt,
    )


def conversation(policy: Policy, corpus: Corpus, example: Example, length: int) -> tuple[list[int], int]:
    """Token ids of prompt and response, cut or padded to `length` with end of text, and how many belong to the prompt.

    As in d1's SFT code the prompt is counted on its own, with a line break after it. So the first token of the header
    in front of the response counts as prompt, and the rest of the header is learnt. Raises InputError if nothing is
    left to learn, or if the tokenizer lacks a token of the response.
    """
    asked = corpus.messages(example)
    answer = {"role": "assistant", "content": corpus.demonstration(example, length, True, random.Random(0))}
    template, tokenizer = policy.tokenizer.apply_chat_template, policy.tokenizer
    prompt = tokenizer(f"{template(asked, tokenize=False)}\n", add_special_tokens=False).input_ids
    ids = tokenizer(f"{template([*asked, answer], tokenize=False)}", add_special_tokens=False).input_ids[:length]
    what = f"tasks.{name_of(corpus)}: the row with the question {example['question'][:200]!r}"
    if len(prompt) >= length:
        raise InputError(f"{what} has a prompt of {len(prompt)} tokens; set methods.sft.generation_length to more")
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids[len(prompt) :]:
        raise InputError(f"{what}: the tokenizer has no token for part of its response; take another model or corpus")
    return ids + [policy.eot] * (length - len(ids)), len(prompt)
