"""Rollouts: prompts -> responses -> rewards, and the record that every surrogate and loss works from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from unmask import processes
from unmask.files import InputError
from unmask.models.policy import Policy
from unmask.progress import Progress
from unmask.samplers.completions import Completions
from unmask.samplers.decode import arguments, decode
from unmask.seeding import Seeds
from unmask.tasks import Example, Task, graded, name_of, total_reward, without_prefill


@dataclass
class Rollouts:
    """A buffer of B = prompts × G responses, the G responses of one prompt next to each other."""

    prompt: Tensor  # [B, P] ids, left-padded
    prompt_mask: Tensor  # [B, P] False on padding, unless the released codes' unmasked padding is asked for
    response: Tensor  # [B, L] ids
    step: Tensor  # [B, L] forward pass that committed each token
    log_prob_t1: Tensor  # [B, L] log-probability of each token when it was drawn, at temperature 1
    nfe: Tensor  # [B] forward passes spent
    reward: Tensor  # [B]
    correct: Tensor  # [B] 1.0 where the strict protocol calls the response right
    counted: Tensor  # [B, L] 1.0 up to and including the first end of text
    group_size: int  # G
    buffer_rows: int  # B of the whole buffer, also in a part of it
    rows_per_forward: int  # sequences in one forward pass, a bound of its memory
    threshold: Tensor | None = None  # [B, N] logits of the thresholds that an adaptive sampler chose; NaN where none
    state: Tensor | None = None  # [B, N, D] what it saw
    entropy: Tensor | None = None  # [B, L] nats, of the distribution at temperature 1 that each token was drawn from
    name: str = ""  # of lines of progress
    learnt: Tensor | None = None  # [B, L] tokens that SFT may mask, where a row holds its prompt too; None is all
    cut: Tensor | None = None  # [B] whether the prompt lost its beginning; None where none may

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def length(self) -> int:
        """L, tokens of a response."""
        return self.response.shape[1]

    def mean_entropy(self) -> float:
        """Mean entropy over the drawn tokens up to the first end of text [nats]; NaN where nothing was drawn."""
        drawn = self.counted * (self.step < self.nfe[:, None])
        return float("nan") if self.entropy is None else ((self.entropy * drawn).sum() / drawn.sum()).item()

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What every surrogate takes: prompt, prompt mask and response."""
        return self.prompt, self.prompt_mask, self.response

    @property
    def flat_groups(self) -> float:
        """Share of groups in which all responses earn the same: they have no better and worse to learn from."""
        groups = self.reward.view(-1, self.group_size)
        flat = (groups == groups[:, :1]).all(1).float().mean().item()
        return float("nan") if bool(groups.isnan().any()) else flat  # a corpus has no rewards

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, for a checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def part(self, rows: slice) -> Rollouts:
        """Some rows of the buffer."""
        some: dict[str, Any] = {name: value[rows] for name, value in self.tensors().items()}
        return replace(self, **some)

    def parts(self) -> Iterator[slice]:
        """Slices of at most `rows_per_forward` rows that cover this process's share of the buffer."""
        yield from pieces(processes.share(len(self)), self.rows_per_forward)

    def copies_at_once(self, copies: int) -> Iterator[slice]:
        """Slices of the masked copies of each row, so that no forward pass has more than `rows_per_forward` of them."""
        yield from pieces(slice(0, copies), max(1, self.rows_per_forward // len(self)))

    @torch.no_grad()
    def map(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """function(rollouts, *rows) of the whole buffer: each process does its share in parts; no gradients."""
        progress, made = self.progress("scoring"), []
        for part in self.parts():
            made.append(function(self.part(part), *(x[part] for x in rows)))
            progress.show(sum(map(len, made)))
        return processes.gather(torch.cat(made))

    def progress(self, what: str) -> Progress:
        """Lines of progress of work on this process's share of the rows."""
        rows = processes.share(len(self))
        return Progress(self.name and f"{self.name}: {what}", rows.stop - rows.start, unit="responses", part=True)


@dataclass(frozen=True)
class RolloutSettings:
    """How a buffer is filled."""

    group_size: int
    length: int
    block_length: int
    sampler: dict[str, Any]
    temperature: float
    rows_per_forward: int
    dropout: bool
    mask_padding: bool
    prefill: bool = True  # the prompt has the beginning of the response that the task gives
    max_prompt_length: int = 0  # tokens; longer prompts lose their beginning. 0: no prompt is cut
    sigma: float = 0.0  # noise on the logit of an adaptive sampler's thresholds
    rows_at_once: int | None = None  # decoded together, from one stream of random numbers; None is all
    name: str = ""  # of lines of progress


def roll_out(policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings, seeds: Seeds) -> Rollouts:
    """G responses to each example, sampled from the policy and rewarded by the task.

    The same for any number of processes, if each one's share is a multiple of `rows_at_once`: every such batch has a
    stream of random numbers of its own.
    """
    task = task if settings.prefill else without_prefill(task)
    repeated = [example for example in examples for _ in range(settings.group_size)]
    prompt, prompt_mask, cut = (
        x.repeat_interleave(settings.group_size, 0) for x in _prompts(policy, task, examples, settings)
    )
    # No dropout, unless the released code's is asked for: the recorded probabilities are those of the policy itself.
    policy.model.train(settings.dropout)
    share = processes.share(len(prompt))
    tokens = (share.stop - share.start) * settings.length
    progress = Progress(settings.name and f"{settings.name}: sampling", tokens, unit="tokens", part=True)
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
    whole = Completions(*(processes.gather(torch.cat([getattr(part, name) for part in made])) for name in names))
    rollouts = _rewarded(policy, task, repeated, prompt, prompt_mask, whole, settings)
    return replace(rollouts, cut=cut) if settings.max_prompt_length else rollouts


def posed(
    policy: Policy, task: Task, examples: list[Example], length: int, longest: int | None = None
) -> tuple[Tensor, Tensor]:
    """Left-padded prompts [B, P] and their mask, False on padding; of each prompt the last `longest` tokens.

    Raises InputError naming the first example whose prompt and response of `length` tokens exceed the model's context.
    """
    prompts = [policy.prompt_ids(task.messages(example), task.prefill) for example in examples]
    prompts = [ids[-longest:] for ids in prompts] if longest else prompts
    context = policy.model.config.max_position_embeddings
    for ids, example in zip(prompts, examples, strict=True):
        if len(ids) + length > context:
            raise InputError(
                f"tasks.{name_of(task)}: a prompt of {len(ids)} tokens and a response of {length} exceed the model's "
                f"context of {context}: {example['question'][:200]!r}. Take the example out of the data, or shorten "
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
    """One response to each example, for evaluation: no dropout. `decoding` is as for `decode`."""
    policy.model.eval()
    prompt, mask = posed(policy, task, examples, decoding["length"])
    mask = mask if mask_padding else torch.ones_like(mask)
    decoding |= arguments(decoding["sampler"])
    with policy.merged():
        made = decode(policy.model, prompt, mask, eot=policy.eot, generator=generator, head=policy.head, **decoding)
    return made, policy.texts(made.response)


def as_rollouts(
    policy: Policy, task: Task, examples: list[Example], texts: list[str], settings: RolloutSettings
) -> Rollouts:
    """Given responses in place of sampled ones: committed at step 0 with probability 1, at no forward passes."""
    prompt, prompt_mask, _ = _prompts(policy, task, examples, settings)
    response = policy.responses(texts, settings.length)
    return _rewarded(policy, task, examples, prompt, prompt_mask, Completions.given(response), settings)


def _prompts(
    policy: Policy, task: Task, examples: list[Example], settings: RolloutSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts, their mask and which of them lost their beginning [B]; says how many did."""
    longest = settings.max_prompt_length
    # One token more than is kept tells which prompts are longer.
    prompt, mask = posed(policy, task, examples, settings.length, longest + 1 if longest else None)
    cut = mask.sum(1) > longest if longest else torch.zeros(len(mask), dtype=torch.bool, device=mask.device)
    if cut.any():
        prompt, mask = prompt[:, -longest:], mask[:, -longest:]
        if processes.rank() == 0:
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
    mine = processes.share(len(examples))
    pairs = list(zip(policy.judged(policy.texts(made.response[mine])), examples[mine], strict=True))
    device = prompt.device
    reward = torch.tensor([total_reward(task, *pair) for pair in pairs], dtype=torch.float32, device=device)
    correct = torch.tensor([graded(task, *pair).strict for pair in pairs], dtype=torch.float32, device=device)
    return Rollouts(
        prompt=prompt,
        prompt_mask=prompt_mask,
        **{f.name: getattr(made, f.name) for f in fields(made)},
        reward=processes.gather(reward),
        correct=processes.gather(correct),
        counted=counted_tokens(made.response, policy.eot),
        group_size=settings.group_size,
        buffer_rows=len(examples),
        rows_per_forward=settings.rows_per_forward,
        name=settings.name,
    )


def pieces(rows: slice, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover `rows`."""
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))


def counted_tokens(response: Tensor, eot: int) -> Tensor:
    """1.0 up to and including the first end of text [B, L], 0.0 after it."""
    ended = (response == eot).long().cumsum(1)
    return ((ended == 0) | ((ended == 1) & (response == eot))).float()
