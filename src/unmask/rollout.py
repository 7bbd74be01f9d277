"""Rollouts: sample responses to prompts, reward them, and record what surrogates and losses need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from unmask.common import distributed
from unmask.common.errors import InputError
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.samplers.completions import Completions
from unmask.samplers.decode import arguments, decode
from unmask.tasks import Example, Task, grade_response, name_of, total_reward, without_prefill


@dataclass
class Rollouts:
    """Buffer of B = prompts × G responses; the G responses to a prompt are adjacent."""

    prompt: Tensor  # [B, P] ids, left-padded
    prompt_mask: Tensor  # [B, P] False on padding; True everywhere with `mask_padding: false`, as in the released codes
    response: Tensor  # [B, L] ids
    step: Tensor  # [B, L] forward pass that committed each token
    log_prob_t1: Tensor  # [B, L] log-probability of each token when it was drawn, at temperature 1
    nfe: Tensor  # [B] forward passes spent
    reward: Tensor  # [B]
    correct: Tensor  # [B] 1.0 if the strict protocol grades the response as correct
    counted: Tensor  # [B, L] 1.0 up to and including the first end of text
    group_size: int  # G
    buffer_rows: int  # B of the whole buffer, also in a part of it
    rows_per_forward: int  # maximum number of sequences in a forward pass, which bounds its memory
    threshold: Tensor | None = None  # [B, N] logits of the thresholds that an adaptive sampler chose; NaN where none
    state: Tensor | None = None  # [B, N, D] hidden states they were chosen from
    entropy: Tensor | None = None  # [B, L] entropy of the prediction for each token, at temperature 1 [nats]
    name: str = ""  # shown in progress lines
    learnt: Tensor | None = None  # [B, L] tokens that SFT may mask if rows include their prompt; None: all
    cut: Tensor | None = None  # [B] True if the prompt lost its beginning; None if prompts are never cut

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def length(self) -> int:
        """Response length L in tokens."""
        return self.response.shape[1]

    def mean_entropy(self) -> float:
        """Average the entropy [nats] over drawn tokens up to the first end of text; NaN if nothing was drawn."""
        # Tokens filled in after the end have step NFE and were not drawn.
        drawn = self.counted * (self.step < self.nfe[:, None])
        return float("nan") if self.entropy is None else ((self.entropy * drawn).sum() / drawn.sum()).item()

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of every surrogate: prompt, prompt mask and response."""
        return self.prompt, self.prompt_mask, self.response

    @property
    def flat_groups(self) -> float:
        """Share of groups in which all rewards are equal, so that their advantages are zero."""
        groups = self.reward.view(-1, self.group_size)
        flat = (groups == groups[:, :1]).all(1).float().mean().item()
        return float("nan") if bool(groups.isnan().any()) else flat  # a corpus has no rewards

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, for a checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def part(self, rows: slice) -> Rollouts:
        """Return a part of the buffer; scalar fields, such as `buffer_rows`, still describe the whole."""
        some: dict[str, Any] = {name: value[rows] for name, value in self.tensors().items()}
        return replace(self, **some)

    def parts(self) -> Iterator[slice]:
        """Yield slices of at most `rows_per_forward` rows that cover this process's share of the buffer."""
        yield from pieces(distributed.local_slice(len(self)), self.rows_per_forward)

    def copies_at_once(self, copies: int) -> Iterator[slice]:
        """Yield slices of each row's masked copies, such that rows × copies in a pass is at most `rows_per_forward`."""
        # Every row contributes this many copies to a pass, and at least one however many rows there are.
        yield from pieces(slice(0, copies), max(1, self.rows_per_forward // len(self)))

    @torch.no_grad()
    def map(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """Compute function(rollouts, *rows) for the whole buffer without gradients.

        Each process computes its share in parts; the results are gathered, so all processes return the same tensor.
        """
        progress, made = self.progress("scoring"), []
        for part in self.parts():
            made.append(function(self.part(part), *(x[part] for x in rows)))
            progress.show(sum(map(len, made)))
        return distributed.gather(torch.cat(made))

    def progress(self, what: str) -> Progress:
        """Create a progress line for work on this process's share of the rows."""
        rows = distributed.local_slice(len(self))
        return Progress(self.name and f"{self.name}: {what}", rows.stop - rows.start, unit="responses", part=True)


@dataclass(frozen=True)
class RolloutSettings:
    """Settings for filling a buffer."""

    group_size: int
    length: int
    block_length: int
    sampler: dict[str, Any]
    temperature: float
    rows_per_forward: int
    dropout: bool
    mask_padding: bool
    prefill: bool = True  # start the response with the task's prefill, as part of the prompt
    max_prompt_length: int = 0  # tokens; longer prompts lose their beginning. 0: no prompt is cut
    sigma: float = 0.0  # noise on the logit of an adaptive sampler's thresholds
    rows_at_once: int | None = None  # rows decoded together, from one random stream; None: all
    name: str = ""  # shown in progress lines


def roll_out(policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds) -> Rollouts:
    """Sample G responses per example from the policy and reward them.

    Every batch of `rows_at_once` rows has its own random stream, so the result does not depend on the number of
    processes if the share of each is a multiple of `rows_at_once`.
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
                length=settings.length,
                block_length=settings.block_length,
                **arguments(settings.sampler),
                temperature=settings.temperature,
                eot=policy.eot,
                head=policy.head,
                sigma=settings.sigma,
                generator=torch.Generator(prompt.device).manual_seed(seeds.number("sampler") + rows.start),
                report=progress.after((rows.start - share.start) * settings.length),
            )
            for rows in pieces(share, settings.rows_at_once or len(prompt))
        ]
    names = [f.name for f in fields(Completions)]
    whole = Completions(*(distributed.gather(torch.cat([getattr(part, name) for part in made])) for name in names))
    rollouts = _rewarded(policy, task, repeated, prompt, prompt_mask, whole, settings)
    return replace(rollouts, cut=cut) if settings.max_prompt_length else rollouts


def posed(
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
    generator: torch.Generator,
    *,
    mask_padding: bool = True,
    **decoding: Any,
) -> tuple[Completions, list[str]]:
    """Generate one response per example for evaluation, without dropout; return the record and the texts.

    `decoding` is passed to `decode`.
    """
    policy.model.eval()
    prompt, mask = posed(policy, task, examples, decoding["length"])
    # The released evaluation of LLaDA attends to padding.
    mask = mask if mask_padding else torch.ones_like(mask)
    decoding |= arguments(decoding["sampler"])
    with policy.merged():
        made = decode(policy.model, prompt, mask, eot=policy.eot, generator=generator, head=policy.head, **decoding)
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
    prompt, mask = posed(policy, task, examples, settings.length, longest + 1 if longest else None)
    cut = mask.sum(1) > longest if longest else torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    if cut.any():
        prompt, mask = prompt[:, -longest:], mask[:, -longest:]
        if distributed.rank() == 0:
            said = f"{int(cut.sum())} of {len(cut)} prompts are longer than max_prompt_length, {longest} tokens"
            print(f"{settings.name}: {said}; they lose their beginning", flush=True)
    return prompt, mask if settings.mask_padding else torch.ones_like(mask), cut


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
    reward = torch.tensor([total_reward(task, *pair) for pair in pairs], dtype=torch.float32, device=device)
    correct = torch.tensor([grade_response(task, *pair).strict for pair in pairs], dtype=torch.float32, device=device)
    return Rollouts(
        prompt=prompt,
        prompt_mask=prompt_mask,
        **{f.name: getattr(made, f.name) for f in fields(made)},
        reward=distributed.gather(reward),
        correct=distributed.gather(correct),
        counted=counted_tokens(made.response, policy.eot),
        group_size=settings.group_size,
        buffer_rows=len(examples),
        rows_per_forward=settings.rows_per_forward,
        name=settings.name,
    )


def pieces(rows: slice, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` rows that cover `rows`."""
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))


def counted_tokens(response: Tensor, eot: int) -> Tensor:
    """Mark tokens [B, L]: 1.0 up to and including the first end of text, 0.0 after it."""
    ended = (response == eot).long().cumsum(1)
    return ((ended == 0) | ((ended == 1) & (response == eot))).float()
