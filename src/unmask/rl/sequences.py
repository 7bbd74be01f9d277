"""Rollout buffers filled with conversations of a corpus, for SFT."""

from __future__ import annotations

import random

import torch

from unmask.common.errors import InputError
from unmask.models.policy import Policy
from unmask.rl.rollouts import Rollouts, RolloutSettings, loss_mask
from unmask.samplers.completions import Completions
from unmask.tasks import Corpus, Example, name_of, question_of


def as_sequences(policy: Policy, corpus: Corpus, examples: list[Example], settings: RolloutSettings) -> Rollouts:
    """Build a buffer of conversations without a separate prompt; `learnt` marks the tokens after each prompt.

    Prompts of different lengths thus start at the same column and need no attention mask. Rewards are NaN.
    """
    device = policy.model.device
    token_ids, prompt_lengths = [], []
    for example in examples:
        ids, prompt_length = conversation(policy, corpus, example, settings.length)
        token_ids.append(ids)
        prompt_lengths.append(prompt_length)

    response = torch.tensor(token_ids, device=device)
    start = torch.tensor(prompt_lengths, device=device)
    position = torch.arange(settings.length, device=device)
    learnt = position >= start[:, None]
    # An end of text in the prompt is not the end of the response.
    ends = response.masked_fill(~learnt, -1)
    # The whole conversation is the response; the prompt has zero columns.
    nothing = response[:, :0]
    # NaN, not 0: a corpus cannot reward anything, and metrics must not show it as a failure.
    unknown = torch.full((len(examples),), torch.nan, device=device)
    return Rollouts(
        prompt=nothing,
        prompt_mask=nothing.bool(),
        **vars(Completions.given(response)),
        reward=unknown,
        correct=unknown,
        loss_mask=loss_mask(ends, policy.eot) * learnt,
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
    tokenizer = policy.tokenizer
    messages = corpus.messages(example)
    demonstration = corpus.demonstration(example, length, True, random.Random(0))
    answer = {"role": "assistant", "content": demonstration}

    prompt_text = tokenizer.apply_chat_template(messages, tokenize=False)
    whole_text = tokenizer.apply_chat_template([*messages, answer], tokenize=False)
    prompt = tokenizer(f"{prompt_text}\n", add_special_tokens=False).input_ids
    ids = tokenizer(whole_text, add_special_tokens=False).input_ids[:length]

    what = f"tasks.{name_of(corpus)}: the row with the question {question_of(example)[:200]!r}"
    if len(prompt) >= length:
        raise InputError(f"{what} has a prompt of {len(prompt)} tokens; increase methods.sft.generation_length")
    # Only the response is learnt, so unknown tokens in the prompt are tolerated.
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids[len(prompt) :]:
        raise InputError(f"{what}: the tokenizer has no token for part of its response; use another model or corpus")
    padding = [policy.eot] * (length - len(ids))
    return ids + padding, len(prompt)
