"""Rollout buffer: completions of one batch of prompts with their tokens, rewards and masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.common.progress import Progress
from unmask.common.random_streams import Streams
from unmask.common.seeding import Seeds
from unmask.config.schema.training import Training
from unmask.config.specs import RunSpec
from unmask.samplers.settings import DecodingSettings

Rows = dict[str, Tensor]  # named tensors whose first axis runs over the responses of a buffer


@dataclass
class Rollouts:
    """Buffer of B = prompts × G responses; the G responses to a prompt are adjacent."""

    prompt: Tensor  # [B, P] ids, left-padded
    prompt_mask: Tensor  # [B, P] False on padding; True everywhere with `mask_padding: false`, as in the released codes
    response: Tensor  # [B, L] ids
    unmask_step: Tensor  # [B, L] forward pass that committed each token
    log_prob_t1: Tensor  # [B, L] log-probability of each token when it was drawn, at temperature 1
    nfe: Tensor  # [B] forward passes spent
    reward: Tensor  # [B]
    correct: Tensor  # [B] 1.0 if the strict protocol grades the response as correct
    loss_mask: Tensor  # [B, L] 1.0 up to and including the first end of text
    group_size: int  # G
    buffer_rows: int  # B of the whole buffer, also in a part of it
    micro_batch_size: int  # maximum number of sequences in a forward pass, which bounds its memory
    gamma_logit: Tensor | None = None  # [B, N] logits of the thresholds γ that an adaptive sampler chose; NaN: none
    gamma_input: Tensor | None = None  # [B, N, D] hidden states they were chosen from
    entropy: Tensor | None = None  # [B, L] entropy of the prediction for each token, at temperature 1 [nats]
    # [B, K] reward of the greedy one-shot completion at each of K chosen steps, for methods that ask for it.
    completion_reward: Tensor | None = None
    name: str = ""  # shown in progress lines
    learnt: Tensor | None = None  # [B, L] tokens that SFT may mask if rows include their prompt; None: all
    cut: Tensor | None = None  # [B] True if the prompt lost its beginning; None if prompts are never cut

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def length(self) -> int:
        """Response length L in tokens."""
        return self.response.shape[1]

    @property
    def row_index(self) -> Tensor:
        """Index [B] of each row."""
        return torch.arange(len(self), device=self.reward.device)

    @property
    def position(self) -> Tensor:
        """Position [B, L] of each token, which is its step if the response is written from left to right."""
        return torch.arange(self.length, device=self.response.device).expand_as(self.response)

    def mean_entropy(self) -> float:
        """Average the entropy [nats] over drawn tokens up to the first end of text; NaN if nothing was drawn."""
        if self.entropy is None:
            return math.nan
        # Tokens filled in after the end have step NFE and were not drawn.
        drawn = self.loss_mask * (self.unmask_step < self.nfe[:, None])
        total = (self.entropy * drawn).sum()
        return (total / drawn.sum()).item()

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of every surrogate: prompt, prompt mask and response."""
        return self.prompt, self.prompt_mask, self.response

    @property
    def zero_variance_groups(self) -> float:
        """Share of groups in which all rewards are equal, so that their advantages are zero."""
        groups = self.reward.view(-1, self.group_size)
        # A corpus has no rewards.
        if bool(groups.isnan().any()):
            return math.nan
        equal = (groups == groups[:, :1]).all(1)
        return equal.float().mean().item()

    @property
    def partial_credit(self) -> float:
        """Share of responses with a reward above 0 that `strict` grades as wrong; NaN for a corpus, without rewards."""
        if bool(self.reward.isnan().any()):
            return math.nan
        paid = (self.reward > 0) & (self.correct < 1)
        return paid.float().mean().item()

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, for a checkpoint."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def streams(self, seeds: Seeds, *key: int | str) -> Streams:
        """Return a random stream for each response of the whole buffer, for this purpose."""
        return seeds.streams(*key, rows=self.row_index)

    def part(self, rows: slice) -> Rollouts:
        """Return a part of the buffer; scalar fields, such as `buffer_rows`, still describe the whole."""
        some: dict[str, Any] = {name: value[rows] for name, value in self.tensors().items()}
        return replace(self, **some)

    def parts(self) -> Iterator[slice]:
        """Yield slices of at most `micro_batch_size` rows that cover this process's share of the buffer."""
        yield from pieces(distributed.local_slice(len(self)), self.micro_batch_size)

    def copies_at_once(self, copies: int) -> Iterator[slice]:
        """Yield slices of each row's masked copies, such that rows × copies in a pass is at most `micro_batch_size`."""
        # Every row contributes this many copies to a pass, and at least one however many rows there are.
        yield from pieces(slice(0, copies), max(1, self.micro_batch_size // len(self)))

    @torch.no_grad()
    def map(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """Compute function(rollouts, *rows) for the whole buffer without gradients.

        Each process computes its share in parts; the results are gathered, so all processes return the same tensor.
        """
        progress = self.progress("scoring")
        values, done = [], 0
        for part in self.parts():
            inputs = [tensor[part] for tensor in rows]
            values.append(function(self.part(part), *inputs))
            done += part.stop - part.start
            progress.show(done)
        return distributed.gather(torch.cat(values))

    def progress(self, what: str) -> Progress:
        """Create a progress line for work on this process's share of the rows."""
        rows = distributed.local_slice(len(self))
        return Progress(self.name and f"{self.name}: {what}", rows.stop - rows.start, unit="responses", part=True)


@dataclass(frozen=True)
class RolloutSettings:
    """Settings for filling a buffer."""

    group_size: int
    decoding: DecodingSettings
    micro_batch_size: int
    dropout: bool  # sample with dropout
    prefill: bool = True  # start the response with the task's prefill, as part of the prompt
    max_prompt_length: int = 0  # tokens; longer prompts lose their beginning. 0: no prompt is cut
    sigma: float = 0.0  # noise on the logit of an adaptive sampler's thresholds
    rewarded: bool = True  # False: rewards are NaN; a task made from test data has no reward settings
    name: str = ""  # shown in progress lines

    @classmethod
    def of_run(cls, run: RunSpec, training: Training, name: str) -> RolloutSettings:
        """Collect the settings of a training run that decide its rollouts."""
        decoding = DecodingSettings(
            length=training.generation_length,
            block_length=run.block_length,
            sampler=run.rollout_sampler,
            temperature=training.temperature,
            rows_per_batch=training.prompts_per_decode_batch * training.group_size,
            mask_padding=training.mask_padding,
        )
        return cls(
            group_size=training.group_size,
            decoding=decoding,
            micro_batch_size=training.micro_batch_size,
            dropout=training.rollout_dropout,
            prefill=training.prefill,
            max_prompt_length=training.max_prompt_length,
            name=name,
        )

    @property
    def length(self) -> int:
        """Response length in tokens."""
        return self.decoding.length


def pieces(rows: slice, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` rows that cover `rows`."""
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))


def loss_mask(response: Tensor, eot: int) -> Tensor:
    """Mark tokens [B, L]: 1.0 up to and including the first end of text, 0.0 after it."""
    is_end = response == eot
    ended = is_end.long().cumsum(1)
    before_end = ended == 0
    first_end = (ended == 1) & is_end
    return (before_end | first_end).float()
