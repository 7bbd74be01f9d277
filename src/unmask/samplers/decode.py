"""Semi-autoregressive block decoding: the only decoding loop, used in training and in evaluation.

A response starts as L mask tokens. Block by block, each denoising step makes one forward pass, draws a token at every
masked position of the active block and lets a commit rule keep some of them. Sources: LLaDA (arXiv 2502.09992), section
2.4; caches: Fast-dLLM (arXiv 2505.22618); the rules are in unmasking_rules.py.

The optimisations do not change results: the head is applied only at masked positions and the last layer only to the
active block; a finished row frees its slot for the next row of the queue, so the rows of a batch may be in different
blocks; rows with the same prompt share their first forward pass; the longest prompts come first, and columns that are
padding in every row are dropped.
A step synchronises with the device once, to read the progress of its rows, plus once if only some rows make a pass or
share one, once if rows finish, and once if an adaptive sampler chooses thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from unmask.common.random_streams import Streams
from unmask.config.schema.samplers import Adaptive, TopK
from unmask.models.threshold_head import ThresholdHead
from unmask.samplers.adaptive_threshold import Chooser
from unmask.samplers.batch import DecodingBatch
from unmask.samplers.completions import Completions
from unmask.samplers.noise import DecodingNoise
from unmask.samplers.prompt_queue import Queue
from unmask.samplers.settings import DecodingSettings
from unmask.samplers.token_sampling import draw
from unmask.samplers.unmasking_rules import Candidates, commit


def decode(
    model: torch.nn.Module, prompt: Tensor, prompt_mask: Tensor, settings: DecodingSettings, **options: Any
) -> Completions:
    """Decode a response for every row of `prompt` [B, P]; the arguments are those of `decode_as_finished`."""
    parts = list(decode_as_finished(model, prompt, prompt_mask, settings, **options))
    row = torch.cat([rows for rows, _ in parts])
    columns = [torch.cat([getattr(made, field.name) for _, made in parts]) for field in fields(Completions)]
    return Completions(*columns)[row.argsort()]


@torch.no_grad()
def decode_as_finished(
    model: torch.nn.Module,
    prompt: Tensor,
    prompt_mask: Tensor,
    settings: DecodingSettings,
    *,
    eot: int,
    streams: Streams,
    head: ThresholdHead | None = None,
    sigma: float = 0.0,
    window: int | None = None,
    report: Callable[[int], None] = lambda tokens: None,
) -> Iterator[tuple[Tensor, Completions]]:
    """Decode a response for every row of `prompt` [B, P], at most `rows_per_batch` rows at a time.

    Yields the indices [n] of rows that have just finished, with their responses. A row's place goes to the next row of
    the queue: the longest prompt of all or, with `window`, of the first `window` rows as long as some of these wait.

    Each row draws from its own one of the `streams` [B], so the other rows and their number change no draw.
    A row is finished when a completed block contains an end of text: the rest is filled with end of text, without
    further forward passes. With `blocks: false`, the response is a single block. With a `cache`, the keys and values of
    everything to the left of a block (prefix), or on both sides (dual), are reused from the block's first pass. The
    sampler's other options are as for `draw`; recorded log-probabilities and entropies are the policy's own, at
    temperature 1. For an adaptive sampler, `head` chooses the thresholds, with noise of standard deviation `sigma`.
    `report` is called after each step with the number of tokens decoded so far.

    Raises InputError that names the row and position if logits are NaN or infinite, or if a row commits nothing, which
    would loop forever.
    """
    length, sampler = settings.length, settings.sampler
    block_length = settings.block_length if sampler.blocks else length
    queue = Queue.of(prompt, prompt_mask, window)
    noise = DecodingNoise.of(streams)
    choices = 0
    if isinstance(sampler, Adaptive):
        each_block = sampler.choose == "block"
        chooser = Chooser(head, sigma, each_block, sampler.proxy)
        choices = length // block_length if each_block else 1
    first_rows = queue.take(settings.rows_per_batch or len(prompt))
    batch = DecodingBatch.of(model, first_rows, length, block_length, sampler.cache, choices)
    finished = 0
    while len(batch):
        masked = batch.masked
        # The host tracks the number of masked positions, so this needs no device synchronisation, unlike nonzero().
        where = masked.nonzero_static(size=sum(batch.left)).unbind(1)
        hidden = batch.hidden_states()

        # Numbers that no one needs are not drawn: this takes a dozen operations on small tensors.
        place = batch.row, batch.part.nfe, block_length
        words = noise.for_tokens(*place)[where] if settings.temperature else None

        # Thresholds are chosen from the hidden states of this very pass, so the rule is known only now.
        rule = chooser.bounds(batch, noise) if choices else sampler
        token, found = draw(
            model,
            hidden[where],
            settings.temperature,
            words,
            top_p=sampler.top_p,
            draw_dtype=sampler.draw_dtype,
            drawn_entropy=isinstance(sampler, TopK) and sampler.score == "entropy",
            forbidden=sampler.forbidden,
            unconditional=batch.hidden_states(unconditional=True)[where] if sampler.guidance else None,
            guidance=sampler.guidance,
        )

        # Rules and records work on [B, K]; only masked positions have values.
        every = (getattr(found, f.name) for f in fields(found))
        found = Candidates(*(None if values is None else _spread(values, masked) for values in every))
        chosen = commit(rule, masked, found, partial(noise.for_order, *place))
        batch.keep(chosen, _spread(token, masked), found.log_prob, found.entropy)
        done = batch.advance(eot)
        if done:
            finished += len(done)
            ended = batch.replace(done, queue)
        report(finished * length + batch.tokens)
        if done:
            yield ended


def _spread(values: Tensor, where: Tensor) -> Tensor:
    """Put values [n] at the n True places of `where` [B, K]; zero elsewhere."""
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values)
