"""Decoding batch: rows in progress, each in its own block; finished rows are replaced from a queue.

The host mirrors which row is in which slot and block. It learns the progress of all rows from one transfer per step. In
the other direction, a step uploads row indices at most twice: if only some rows make a pass or share one, and if rows
finish.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.common.errors import InputError
from unmask.samplers.completions import Completions
from unmask.samplers.prompt_queue import Queue

Cache = Literal["none", "prefix", "dual"]


@dataclass
class DecodingBatch:
    """Batch of S rows being decoded. A step only considers their active blocks [S, K]."""

    model: torch.nn.Module
    block_length: int
    cache: Cache
    row: Tensor  # [S] index of the row in each slot, in the original batch
    prompt: Tensor  # [S, P]
    seen: Tensor  # [S, P + L] False on padding
    part: Completions  # of the S rows
    block: Tensor  # [S] active block, from 0
    masked: Tensor  # [S, K] positions of the active block that are still masked
    at: list[int]  # active block, on the host
    left: list[int]  # number of masked positions in it
    prompt_group: list[int]  # number of the distinct prompt, as in the queue
    size: list[int]  # prompt length in tokens
    new_row: list[int]  # slots whose next pass is the first of their response
    new_block: list[int] = field(default_factory=list)  # slots whose next pass is the first of a later block
    state: Tensor | None = None  # [S, D] state of the column before each block in the last pass, for adaptive samplers
    stores: dict[bool, Tensor] = field(default_factory=dict)  # caches of keys and values, by `unconditional`
    spoilt: Tensor | None = None  # [S, K] True where the last pass gave NaN or infinite logits
    failed: Tensor | None = None  # [S] True for rows with such logits and for rows that committed nothing

    @classmethod
    def of(
        cls, model: torch.nn.Module, rows: Queue, length: int, block_length: int, cache: Cache, choices: int = 0
    ) -> DecodingBatch:
        """Open a slot for each of these rows, fully masked, with room for `choices` thresholds per row."""
        count, device = len(rows), rows.prompt.device
        state_size = model.config.hidden_size if choices else 0
        padding = rows.prompt.shape[1] - rows.width(rows.size)
        return cls(
            model=model,
            block_length=block_length,
            cache=cache,
            row=rows.row,
            prompt=rows.prompt[:, padding:],
            seen=F.pad(rows.prompt_mask[:, padding:], (0, length), value=True),
            part=Completions.empty(count, length, model.config.mask_token_id, device, choices, state_size),
            block=torch.zeros(count, dtype=torch.long, device=device),
            masked=torch.ones((count, block_length), dtype=torch.bool, device=device),
            at=[0] * count,
            left=[block_length] * count,
            prompt_group=rows.prompt_group,
            size=rows.size,
            new_row=list(range(count)),
        )

    def __len__(self) -> int:
        return len(self.at)

    # --- a forward pass -----------------------------------------------------------------------------------------------

    def hidden_states(self, unconditional: bool = False) -> Tensor:
        """Run one forward pass per row and return the hidden states [S, K, D] of the active blocks.

        With `unconditional`, [MASK] replaces the prompt, for classifier-free guidance.
        """
        width = self.prompt.shape[1]
        blank = self.seen[:, :width] & unconditional
        ids = torch.cat((self.prompt.masked_fill(blank, self.model.config.mask_token_id), self.part.response), dim=1)
        if self.cache != "none" and unconditional not in self.stores:
            self.stores[unconditional] = self.model.empty_store(*ids.shape)
        store = self.stores.get(unconditional)

        # `shared` slots copy the result of a slot of `new_row` with the same prompt. `whole` slots process all columns:
        # the first pass of a response or block, or every pass if there is no cache. `inside` slots are within a block
        # and process only a window of columns, the rest coming from the cache.
        leader = self._leaders()
        shared = [slot for slot, first in leader.items() if slot != first]
        whole = set(leader.values()) | set(self.new_block if store is not None else range(len(self))) - set(shared)
        inside = set(range(len(self))) - whole - set(shared)
        passes = [(sorted(rows), windowed) for rows, windowed in ((whole, False), (inside, True)) if rows]

        # In the common case all slots make the same kind of pass, and nothing needs to be gathered or uploaded.
        if len(passes) == 1 and not shared:
            hidden = self._pass(ids, *passes[0], slice(None), store)
        else:
            first = [leader[slot] for slot in shared]
            *some, to, source = upload(ids.device, *(rows for rows, _ in passes), shared, first)
            made = [self._pass(ids, *one, where, store) for one, where in zip(passes, some, strict=True)]
            hidden = made[0].new_empty((len(self), *made[0].shape[1:]))
            for where, states in zip(some, made, strict=True):
                hidden[where] = states
            hidden[to] = hidden[source]
            if store is not None and shared:
                store[:, :, to] = store[:, :, source]

        # An adaptive sampler asked for one column more, see `_pass`.
        if self.choices:
            self.state, hidden = hidden[:, 0], hidden[:, 1:]
        return hidden

    @property
    def choices(self) -> int:
        """Number of thresholds per response; 0 unless the sampler is adaptive."""
        return self.part.gamma_logit.shape[1]

    def _leaders(self) -> dict[int, int]:
        """Map each slot of `new_row` to the one whose first pass it shares, the first with the same prompt.

        With dropout on, every row needs its own pass, because the rows draw different dropout masks.
        """
        first: dict[int, int] = {}
        return {s: s if self.model.training else first.setdefault(self.prompt_group[s], s) for s in self.new_row}

    def _pass(self, ids: Tensor, rows: list[int], windowed: bool, some: slice | Tensor, store: Tensor | None) -> Tensor:
        """Run a forward pass of the slots `rows` (`some` on the device) and return the states of their active blocks.

        A `windowed` pass recomputes the active block only (dual cache) or the block and everything after it (prefix
        cache); keys and values of all other columns come from the cache.
        """
        width = ids.shape[1] - self.part.response.shape[1]
        start = width + self.block[some, None] * self.block_length
        offsets = torch.arange(-1 if self.choices else 0, self.block_length, device=ids.device)
        columns, window = start + offsets, None
        if windowed:
            # The column before the block is outside of the window. Its state is only read after the first pass of a
            # block, so any valid index will do. Windows of rows nearer to the end are filled up with the last column.
            columns = offsets.clamp(min=0).expand(len(rows), -1)
            span = self.block_length
            if self.cache == "prefix":
                span = ids.shape[1] - width - min(self.at[row] for row in rows) * self.block_length
            window = (start + torch.arange(span, device=ids.device)).clamp(max=ids.shape[1] - 1)
        # Without padding in these rows there is no mask, which allows faster attention kernels.
        seen = self.seen[some] if min(self.size[row] for row in rows) < width else None
        kept = None if store is None else store[:, :, some]  # a copy, unless every row takes part
        hidden = self.model.hidden_states(ids[some], seen, columns, store=kept, window=window)
        if kept is not None and isinstance(some, Tensor):
            store[:, :, some] = kept
        return hidden

    # --- after a forward pass -----------------------------------------------------------------------------------------

    def keep(self, chosen: Tensor, token: Tensor, log_prob_t1: Tensor, entropy: Tensor) -> None:
        """Commit the chosen positions [S, K] of the active blocks and count the forward pass.

        Failures are only noted here; `advance` reports them, with the one transfer of the step.
        """
        self.spoilt = self.masked & log_prob_t1.isnan()
        self.failed = self.spoilt.any(1) | ~chosen.any(1)
        part, columns = self.part, self._columns()
        values = {"response": token, "unmask_step": part.nfe[:, None].expand_as(token)}
        values |= {"log_prob_t1": log_prob_t1, "entropy": entropy}
        for name, value in values.items():
            whole = getattr(part, name)
            whole.scatter_(1, columns, torch.where(chosen, value, whole.gather(1, columns)))
        part.nfe += 1
        self.masked &= ~chosen

    def advance(self, eot: int) -> list[int]:
        """Advance rows with a complete block to the next one; return the slots whose response is complete.

        Raises InputError if a row has NaN or infinite logits or committed nothing.
        """
        part, length = self.part, self.part.response.shape[1]
        complete = ~self.masked.any(1)
        ended = (part.response.gather(1, self._columns()) == eot).any(1)
        over = complete & (ended | ((self.block + 1) * self.block_length >= length))

        # After a block with an end of text the rest of the response is end of text. Its step is NFE, which no pass has:
        # this marks tokens that were not drawn.
        rest = torch.arange(length, device=over.device) >= (self.block[:, None] + 1) * self.block_length
        rest &= over[:, None]
        part.response.masked_fill_(rest, eot)
        part.unmask_step = torch.where(rest, part.nfe[:, None], part.unmask_step)
        moved = complete & ~over
        self.block += moved
        self.masked |= moved[:, None]

        # The only device-to-host transfer of a step. State: 0 within a block, 1 moved to the next one, 2 finished.
        state, self.left, failed = torch.stack(
            (complete.long() + over, self.masked.sum(1), self.failed.long())
        ).tolist()
        if any(failed):
            raise self._failure(failed.index(1))
        self.new_row, self.new_block = [], [slot for slot, s in enumerate(state) if s == 1]
        self.at = [block + (s == 1) for block, s in zip(self.at, state, strict=True)]
        return [slot for slot, s in enumerate(state) if s == 2]

    def _columns(self) -> Tensor:
        """Return the positions [S, K] of the active blocks within the responses."""
        return self.block[:, None] * self.block_length + torch.arange(self.block_length, device=self.block.device)

    def _failure(self, slot: int) -> InputError:
        """Build the error for a slot that cannot continue."""
        # With sound logits the rule committed nothing, so the block still has a masked position to name.
        spoilt = self.spoilt[slot].nonzero()[:, 0].tolist()
        column, block = (spoilt or self.masked[slot].nonzero()[:, 0].tolist())[0], self.at[slot]
        cause = "the model's logits there are NaN or infinite" if spoilt else "the commit rule chose none of its tokens"
        return InputError(
            f"decoding: row {int(self.row[slot])}, block {block}, position {block * self.block_length + column} of the "
            f"response (all from 0), forward pass {int(self.part.nfe[slot]) - 1}: {cause}. Look for NaN in the "
            "weights, the adapter and the threshold head; if training made them, lower learning_rate; if bfloat16 did, "
            "set dtype: float32."
        )

    @property
    def tokens(self) -> int:
        """Number of tokens decoded in the open rows, from the host's mirror."""
        return sum((block + 1) * self.block_length - left for block, left in zip(self.at, self.left, strict=True))

    # --- the queue ----------------------------------------------------------------------------------------------------

    def replace(self, done: list[int], queue: Queue) -> tuple[Tensor, Completions]:
        """Refill finished slots from the queue and close those for which no row is left.

        Returns the indices of the finished rows in the original batch, and their responses.
        """
        length, rows = self.part.response.shape[1], queue.take(len(done))
        new = DecodingBatch.of(self.model, rows, length, self.block_length, self.cache, self.choices)
        if len(new):
            width = max(self.prompt.shape[1], new.prompt.shape[1])
            self._pad_to(width)
            new._pad_to(width)
        self.new_row = done[: len(new)]
        gone = set(done[len(new) :])
        open_ = [slot for slot in range(len(self)) if slot not in gone]

        # The finished responses must be read before their slots are overwritten.
        ended, filled, rest = upload(self.block.device, done, self.new_row, open_)
        finished = self.row[ended], self.part[ended]
        if len(new):
            self._fill(filled, new)
        if gone:
            self._close(open_, rest)
        self._pad_to(queue.width(self.size))
        return finished

    def _fill(self, filled: Tensor, new: DecodingBatch) -> None:
        """Put new rows into the slots `filled` (`new_row` on the host)."""
        for name in ("row", "prompt", "seen", "block", "masked"):
            getattr(self, name)[filled] = getattr(new, name)
        self.part.put(filled, new.part)
        for name in ("at", "left", "prompt_group", "size"):
            for slot, value in zip(self.new_row, getattr(new, name), strict=True):
                getattr(self, name)[slot] = value

    def _close(self, open_: list[int], rest: Tensor) -> None:
        """Keep only the slots `open_` (`rest` on the device)."""
        for name in ("row", "prompt", "seen", "part", "block", "masked"):
            setattr(self, name, getattr(self, name)[rest])
        for name in ("at", "left", "prompt_group", "size"):
            setattr(self, name, [getattr(self, name)[slot] for slot in open_])
        place = {slot: i for i, slot in enumerate(open_)}
        self.new_row = [place[slot] for slot in self.new_row if slot in place]
        self.new_block = [place[slot] for slot in self.new_block if slot in place]
        self.stores = {key: store[:, :, rest] for key, store in self.stores.items()}

    def _pad_to(self, width: int) -> None:
        """Add or drop columns on the left until prompts have `width`; those dropped must be padding in every slot."""
        more = width - self.prompt.shape[1]
        if more:
            self.prompt, self.seen = F.pad(self.prompt, (more, 0)), F.pad(self.seen, (more, 0))
            self.stores = {key: F.pad(store, (0, 0, 0, 0, more, 0)) for key, store in self.stores.items()}


def upload(device: torch.device, *numbers: list[int]) -> tuple[Tensor, ...]:
    """Upload several lists to the device in one transfer; return a tensor for each."""
    packed = torch.tensor([number for some in numbers for number in some], dtype=torch.long, device=device)
    return packed.split([len(some) for some in numbers])
