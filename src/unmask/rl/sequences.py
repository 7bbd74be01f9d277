"""Rollout buffers filled with conversations of a corpus, for SFT."""

from __future__ import annotations

import random
from dataclasses import fields

import torch

from unmask.common.errors import InputError
from unmask.models.policy import Policy
from unmask.rl.rollouts import Rollouts, RolloutSettings, loss_mask
from unmask.samplers.completions import Completions
from unmask.tasks import Corpus, Example, name_of


def as_sequences(policy: Policy, corpus: Corpus, examples: list[Example], settings: RolloutSettings) -> Rollouts:
    """Build a buffer of conversations without a separate prompt; `learnt` marks the tokens after each prompt.

    Prompts of different lengths thus start at the same column and need no attention mask. Rewards are NaN.
    """
    found = [conversation(policy, corpus, example, settings.length) for example in examples]
    response = torch.tensor([ids for ids, _ in found], device=policy.model.device)
    start = torch.tensor([asked for _, asked in found], device=policy.model.device)
    learnt = torch.arange(settings.length, device=policy.model.device) >= start[:, None]
    # The whole conversation is the response; the prompt has zero columns.
    nothing = response[:, :0]
    # NaN, not 0: a corpus cannot reward anything, and metrics must not show it as a failure.
    unknown = torch.full((len(examples),), torch.nan, device=policy.model.device)
    given = Completions.given(response)
    return Rollouts(
        prompt=nothing,
        prompt_mask=nothing.bool(),
        **{f.name: getattr(given, f.name) for f in fields(given)},
        reward=unknown,
        correct=unknown,
        loss_mask=loss_mask(response.masked_fill(~learnt, -1), policy.eot) * learnt,
        group_size=settings.group_size,
        buffer_rows=len(examples),
        micro_batch_size=settings.micro_batch_size,
        learnt=learnt,
    )


def conversation(policy: Policy, corpus: Corpus, example: Example, length: int) -> tuple[list[int], int]:
    """Return the token ids of prompt and response, truncated or padded to `length`, and the prompt's token count.

    Padding is end of text. As in d1's SFT code, the prompt is tokenized separately, followed by a line break. The first
    token of the response's header thus counts as prompt, and the rest of the header is learnt. Raises InputError if the
    prompt leaves no room for a response or if the tokenizer has no token for part of the response.
    """
    asked = corpus.messages(example)
    answer = {"role": "assistant", "content": corpus.demonstration(example, length, True, random.Random(0))}
    template, tokenizer = policy.tokenizer.apply_chat_template, policy.tokenizer
    prompt = tokenizer(f"{template(asked, tokenize=False)}\n", add_special_tokens=False).input_ids
    ids = tokenizer(f"{template([*asked, answer], tokenize=False)}", add_special_tokens=False).input_ids[:length]
    what = f"tasks.{name_of(corpus)}: the row with the question {example['question'][:200]!r}"
    if len(prompt) >= length:
        raise InputError(f"{what} has a prompt of {len(prompt)} tokens; increase methods.sft.generation_length")
    # Only the response is learnt, so unknown tokens in the prompt are tolerated.
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids[len(prompt) :]:
        raise InputError(f"{what}: the tokenizer has no token for part of its response; use another model or corpus")
    return ids + [policy.eot] * (length - len(ids)), len(prompt)
