"""The batch of a decoding in progress: rows, each in its own block, and the queue that finished ones are replaced from.

Which rows stand where is known on the host, from the one transfer a step that says which rows ended a block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.samplers.completions import Completions

Cache = Literal["none", "prefix", "dual"]


@dataclass
class Queue:
    """Rows that wait, the longest prompt first; rows with the same prompt are neighbours."""

    prompt: Tensor  # [B, P]
    prompt_mask: Tensor  # [B, P]
    order: Tensor  # [B] rows in the order in which they are taken
    kind: list[int]  # by row: rows of one kind have the same prompt
    size: list[int]  # by row: tokens of its prompt
    taken: int = 0

    @classmethod
    def of(cls, prompt: Tensor, prompt_mask: Tensor) -> Queue:
        """All rows, in order."""
        size = prompt_mask.sum(1)
        both = torch.cat((prompt, prompt_mask.to(prompt.dtype)), dim=1)
        kind = torch.unique(both, dim=0, return_inverse=True)[1]
        by_kind = kind.argsort(stable=True)
        order = by_kind[size[by_kind].argsort(descending=True, stable=True)]
        return cls(prompt, prompt_mask, order, kind.tolist(), size.tolist())

    def take(self, count: int) -> Tensor:
        """The next rows, at most `count`."""
        rows = self.order[self.taken : self.taken + count]
        self.taken += len(rows)
        return rows


@dataclass
class Slots:
    """S rows in the making. Their active blocks [S, K] are all that a step looks at."""

    model: torch.nn.Module
    block_length: int
    cache: Cache
    job: Tensor  # [S] row of the queue in each slot
    prompt: Tensor  # [S, P]
    seen: Tensor  # [S, P + L] False on padding
    part: Completions  # of S rows
    block: Tensor  # [S] the active block, from 0
    masked: Tensor  # [S, K] positions of the active block that are still masked
    at: list[int]  # the active block, on the host
    kind: list[int]
    size: list[int]
    fresh: list[int]  # slots whose next pass is the first of their response
    turned: list[int] = field(default_factory=list)  # slots whose next pass is the first of a later block
    state: Tensor | None = None  # [S, D] last pass's states of the column before each block, for an adaptive sampler
    stores: dict[bool, Tensor] = field(default_factory=dict)  # keys and values, by `unconditional`

    @classmethod
    def of(
        cls,
        model: torch.nn.Module,
        queue: Queue,
        job: Tensor,
        length: int,
        block_length: int,
        cache: Cache,
        choices: int = 0,
    ) -> Slots:
        """Slots with these rows of the queue, all masked; `choices` thresholds a row will be chosen."""
        rows, device = job.tolist(), queue.prompt.device
        width = model.config.hidden_size if choices else 0
        return cls(
            model=model,
            block_length=block_length,
            cache=cache,
            job=job,
            prompt=queue.prompt[job],
            seen=F.pad(queue.prompt_mask[job], (0, length), value=True),
            part=Completions.empty(len(job), length, model.config.mask_token_id, device, choices, width),
            block=torch.zeros(len(job), dtype=torch.long, device=device),
            masked=torch.ones((len(job), block_length), dtype=torch.bool, device=device),
            at=[0] * len(rows),
            kind=[queue.kind[row] for row in rows],
            size=[queue.size[row] for row in rows],
            fresh=list(range(len(rows))),
        )

    def __len__(self) -> int:
        return len(self.at)

    # --- a forward pass -----------------------------------------------------------------------------------------------

    def hidden_states(self, unconditional: bool = False) -> Tensor:
        """Hidden states [S, K, D] of the active blocks after one forward pass of each row.

        `unconditional`: with [MASK] in place of the prompt, for guidance.
        """
        width = self.prompt.shape[1]
        blank = self.seen[:, :width] & unconditional
        ids = torch.cat((self.prompt.masked_fill(blank, self.model.config.mask_token_id), self.part.response), dim=1)
        if self.cache != "none" and unconditional not in self.stores:
            self.stores[unconditional] = self.model.empty_store(*ids.shape)
        store = self.stores.get(unconditional)
        leader = self._leaders()
        shared = [slot for slot, first in leader.items() if slot != first]
        whole = set(leader.values()) | set(self.turned if store is not None else range(len(self))) - set(shared)
        inside = set(range(len(self))) - whole - set(shared)
        passes = [(sorted(rows), windowed) for rows, windowed in ((whole, False), (inside, True)) if rows]
        made = [self._pass(ids, rows, store, windowed) for rows, windowed in passes]
        hidden = made[0]
        if len(passes) > 1 or shared:
            hidden = hidden.new_empty((len(self), *hidden.shape[1:]))
            for (rows, _), states in zip(passes, made, strict=True):
                hidden[rows] = states
        if shared:
            first = [leader[slot] for slot in shared]
            hidden[shared] = hidden[first]
            if store is not None:
                store[:, :, shared] = store[:, :, first]
        if self.choices:
            self.state, hidden = hidden[:, 0], hidden[:, 1:]
        return hidden

    @property
    def choices(self) -> int:
        """Thresholds chosen for each response."""
        return self.part.threshold.shape[1]

    def _leaders(self) -> dict[int, int]:
        """For each fresh slot the one whose first pass it shares: the first with the same prompt.

        While dropout is on, every row has a pass of its own.
        """
        first: dict[int, int] = {}
        return {s: s if self.model.training else first.setdefault(self.kind[s], s) for s in self.fresh}

    def _pass(self, ids: Tensor, rows: list[int], store: Tensor | None, windowed: bool) -> Tensor:
        """One forward pass of some rows; `windowed` means from the cache, but for what the cache mode recomputes."""
        every = len(rows) == len(self)
        some = slice(None) if every else rows
        width = ids.shape[1] - self.part.response.shape[1]
        start = width + self.block[some, None] * self.block_length
        offsets = torch.arange(-1 if self.choices else 0, self.block_length, device=ids.device)
        columns, window = start + offsets, None
        if windowed:  # what stands before the block is not in the window; nobody looks at it then
            columns = offsets.clamp(min=0).expand(len(rows), -1)
            span = self.block_length
            if self.cache == "prefix":
                span = ids.shape[1] - width - min(self.at[row] for row in rows) * self.block_length
            window = (start + torch.arange(span, device=ids.device)).clamp(max=ids.shape[1] - 1)
        seen = self.seen[some] if min(self.size[row] for row in rows) < width else None
        kept = None if store is None else store[:, :, some]  # a copy, unless every row takes part
        hidden = self.model.hidden_states(ids[some], seen, columns, store=kept, window=window)
        if kept is not None and not every:
            store[:, :, rows] = kept
        return hidden

    # --- what follows it ----------------------------------------------------------------------------------------------

    def keep(self, chosen: Tensor, token: Tensor, log_prob: Tensor, log_prob_t1: Tensor, entropy: Tensor) -> None:
        """Commit the chosen positions [S, K] of the active blocks, and count the pass."""
        part, columns = self.part, self._columns()
        values = {"response": token, "step": part.nfe[:, None].expand_as(token)}
        values |= {"log_prob": log_prob, "log_prob_t1": log_prob_t1, "entropy": entropy}
        for name, value in values.items():
            whole = getattr(part, name)
            whole.scatter_(1, columns, torch.where(chosen, value, whole.gather(1, columns)))
        part.nfe += 1
        self.masked &= ~chosen

    def advance(self, eot: int) -> list[int]:
        """Move rows whose block is complete on to the next one; returns the slots whose response is complete."""
        part, length = self.part, self.part.response.shape[1]
        complete = ~self.masked.any(1)
        ended = (part.response.gather(1, self._columns()) == eot).any(1)
        over = complete & (ended | ((self.block + 1) * self.block_length >= length))
        rest = torch.arange(length, device=over.device) >= (self.block[:, None] + 1) * self.block_length
        rest &= over[:, None]
        part.response.masked_fill_(rest, eot)
        part.step = torch.where(rest, part.nfe[:, None], part.step)
        moved = complete & ~over
        self.block += moved
        self.masked |= moved[:, None]
        state = (complete.long() + over.long()).tolist()
        self.fresh, self.turned = [], [slot for slot, s in enumerate(state) if s == 1]
        self.at = [block + (s == 1) for block, s in zip(self.at, state, strict=True)]
        return [slot for slot, s in enumerate(state) if s == 2]

    def _columns(self) -> Tensor:
        """Positions of the active blocks within the responses [S, K]."""
        return self.block[:, None] * self.block_length + torch.arange(self.block_length, device=self.block.device)

    # --- the queue ----------------------------------------------------------------------------------------------------

    def replace(self, done: list[int], queue: Queue) -> None:
        """Give finished slots to the next rows of the queue; close those for which there is none."""
        length, job = self.part.response.shape[1], queue.take(len(done))
        new = Slots.of(self.model, queue, job, length, self.block_length, self.cache, self.choices)
        cut = queue.prompt.shape[1] - self.prompt.shape[1]
        new.prompt, new.seen = new.prompt[:, cut:], new.seen[:, cut:]
        filled = done[: len(new)]
        if filled:
            for name in ("job", "prompt", "seen", "block", "masked"):
                getattr(self, name)[filled] = getattr(new, name)
            self.part.put(filled, new.part)
            for name in ("at", "kind", "size"):
                for slot, value in zip(filled, getattr(new, name), strict=True):
                    getattr(self, name)[slot] = value
            self.fresh = filled
        if len(filled) < len(done):
            self._close(set(done[len(filled) :]))
        self._cut_padding()

    def _close(self, gone: set[int]) -> None:
        rows = [slot for slot in range(len(self)) if slot not in gone]
        place = {slot: i for i, slot in enumerate(rows)}
        for name in ("job", "prompt", "seen", "part", "block", "masked"):
            setattr(self, name, getattr(self, name)[rows])
        for name in ("at", "kind", "size"):
            setattr(self, name, [getattr(self, name)[slot] for slot in rows])
        self.fresh, self.turned = ([place[s] for s in some if s in place] for some in (self.fresh, self.turned))
        self.stores = {key: store[:, :, rows] for key, store in self.stores.items()}

    def _cut_padding(self) -> None:
        """Drop the columns on the left that are padding in every slot."""
        cut = self.prompt.shape[1] - max(self.size, default=self.prompt.shape[1])
        if cut:
            self.prompt, self.seen = self.prompt[:, cut:], self.seen[:, cut:]
            self.stores = {key: store[:, :, :, cut:] for key, store in self.stores.items()}
