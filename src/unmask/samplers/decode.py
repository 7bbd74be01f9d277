"""Semi-autoregressive block decoding: the one loop that turns prompts into responses, in training and in evaluation.

A response starts as L mask tokens. Block after block, each step makes one forward pass, draws a token at every masked
position of the active block and lets a commit rule keep some of them. Sources: LLaDA (arXiv 2502.09992), section 2.4;
caches: Fast-dLLM (arXiv 2505.22618); the rules are in commit.py.

What makes it fast changes no result: the head sees only masked positions, the last layer only the active block; a
finished row gives its slot to the next of the queue, so rows of a batch may be in different blocks; rows with the same
prompt share their first forward pass; longest prompts go first, and columns that are padding everywhere are cut off.
A step synchronises with the device once, to see what became of its rows; once more where only some rows make a pass or
share one, once where rows end, and once where an adaptive sampler chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from unmask.adaptive import ThresholdHead
from unmask.samplers.choose import Chooser
from unmask.samplers.commit import Candidates, commit
from unmask.samplers.completions import Completions
from unmask.samplers.draw import draw
from unmask.samplers.queue import Queue
from unmask.samplers.slots import Cache, Slots

SETTINGS = ("cache", "guidance", "forbidden", "blocks", "top_p", "draw_dtype")  # in a sampler, and no part of its rule


@torch.no_grad()
def decode(
    model: torch.nn.Module,
    prompt: Tensor,
    prompt_mask: Tensor,
    *,
    length: int,
    block_length: int,
    sampler: dict[str, Any],
    temperature: float,
    eot: int,
    generator: torch.Generator,
    blocks: bool = True,
    cache: Cache = "none",
    slots: int | None = None,
    top_p: float = 1.0,
    draw_dtype: str = "float32",
    guidance: float = 0.0,
    forbidden: Sequence[int] = (),
    head: ThresholdHead | None = None,
    sigma: float = 0.0,
    report: Callable[[int], None] = lambda tokens: None,
) -> Completions:
    """Decode a response of `length` tokens for every row of `prompt` [B, P], at most `slots` rows at a time.

    A row whose finished block holds an end of text is done: what follows is end of text, at no further forward passes.
    Without `blocks` the whole response is one block. `top_p` and `draw_dtype` are as for `draw`; what is recorded stays
    the policy's own, at temperature 1.
    `cache`: inside a block, keys and values are reused of what is left of it (prefix), and of what is right of it too
    (dual), as they were at the block's first pass; `guidance` is classifier-free, w of draw.py. An adaptive sampler
    has its thresholds chosen by `head`, with noise of standard deviation `sigma`. `report` is told after each step how
    many of all tokens are done.

    Raises InputError naming the row and position whose logits are NaN or infinite, and a row that commits nothing: it
    would stay where it is for ever.
    """
    block_length = block_length if blocks else length
    queue = Queue.of(prompt, prompt_mask)
    choices = 0
    if sampler["rule"] == "adaptive":
        each_block = sampler["choose"] == "block"
        chooser = Chooser(head, sigma, each_block, sampler["proxy"])
        choices = length // block_length if each_block else 1
    batch = Slots.of(model, queue.take(slots or len(prompt)), length, block_length, cache, choices)
    out = Completions.empty(len(prompt), length, model.config.mask_token_id, prompt.device, *batch.part.state.shape[1:])
    finished = 0
    while len(batch):
        masked = batch.masked
        where = masked.nonzero_static(size=sum(batch.left)).unbind(1)  # their number is known: nobody waits
        hidden = batch.hidden_states()
        rule = chooser.commit_rule(batch, generator) if choices else sampler
        token, found = draw(
            model,
            hidden[where],
            temperature,
            generator,
            top_p=top_p,
            draw_dtype=draw_dtype,
            drawn_entropy=sampler.get("score") == "entropy",
            forbidden=forbidden,
            unconditional=batch.hidden_states(unconditional=True)[where] if guidance else None,
            guidance=guidance,
        )
        every = (getattr(found, f.name) for f in fields(found))
        found = Candidates(*(None if values is None else _spread(values, masked) for values in every))
        chosen = commit(rule, masked, found, generator)
        batch.keep(chosen, _spread(token, masked), found.log_prob, found.entropy)
        done = batch.advance(eot)
        if done:
            out.put(*batch.replace(done, queue))
            finished += len(done)
        report(finished * length + batch.tokens)
    return out


def arguments(sampler: dict[str, Any]) -> dict[str, Any]:
    """A sampler's settings as arguments of `decode`: its commit rule, and the settings that are not part of it."""
    settings: dict[str, Any] = {key: sampler[key] for key in SETTINGS if key in sampler}
    return {"sampler": {key: value for key, value in sampler.items() if key not in settings}, **settings}


def _spread(values: Tensor, where: Tensor) -> Tensor:
    """Put values [n] at the n True places of `where` [B, K]; zero elsewhere."""
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values)
