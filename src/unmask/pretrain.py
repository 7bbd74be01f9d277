"""Train a tiny base model from scratch by masked denoising on demonstrations of its task.

Most demonstrations take a plausible shortcut and some are right, so the base has learnt the right way but seldom takes
it: there is room for RL, and what RL is tested on is elicitation, not a new skill. A base counts only if its measured
quality lies inside a gate; outside it the run fails and says so.

The loss is the diffusion bound with the 1/t weight dropped (every masked token counts the same), which learns faster at
this size and has the same optimum, p(token | what is seen).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.models.policy import Policy
from unmask.progress import Progress
from unmask.samplers.decode import decode
from unmask.seeding import Seeds
from unmask.settings import Pretraining
from unmask.tasks import Example, Task


@dataclass
class Demonstrations:
    """Tokenised demonstrations of one length: prompts [N, P] with their mask [N, P], and responses [N, L]."""

    prompt: Tensor
    prompt_mask: Tensor
    response: Tensor


def pretrain(
    policy: Policy,
    task: Task,
    splits: dict[str, list[Example]],
    settings: Pretraining,
    lengths: list[int],
    block_length: int,
    seeds: Seeds,
    name: str,
) -> dict[str, float]:
    """Train policy.model in place until its quality is inside the gate. Returns what was measured."""
    model = policy.model.requires_grad_(True)
    data = [_demonstrations(policy, task, splits["train"], settings, length, seeds) for length in lengths]
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, (0.9, settings.adam_beta2), weight_decay=settings.weight_decay
    )
    generator = seeds.generator("batches")
    progress = Progress(name, settings.updates)
    low, high = settings.gate
    quality = math.nan
    for update in range(settings.updates):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(update, settings.updates)
        loss = _loss(model, data[update % len(data)], settings.batch_size, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.show(update + 1, loss=loss.item(), quality=quality)
    quality = measure(policy, task, splits["validation"], lengths, block_length)
    if not low <= quality <= high:
        raise SystemExit(
            f"{name}: mean greedy reward {quality:.3f} on validation is outside the gate [{low}, {high}]. "
            "Change models.*.pretraining (updates, right_share) or the gate."
        )
    return {"quality": quality, "updates": settings.updates, "loss": loss.item()}


def measure(policy: Policy, task: Task, examples: list[Example], lengths: list[int], block_length: int) -> float:
    """Mean reward of greedy decoding, one token a step, over the lengths."""
    policy.model.eval()
    prompt, prompt_mask = policy.pad([policy.prompt_ids(task.messages(e), task.prefill) for e in examples])
    sampler: dict[str, Any] = {"rule": "top_k", "tokens_per_step": 1, "score": "confidence"}
    total = 0.0
    for length in lengths:
        made = decode(
            policy.model,
            prompt,
            prompt_mask,
            length=length,
            block_length=block_length,
            sampler=sampler,
            temperature=0.0,
            eot=policy.eot,
            generator=torch.Generator(),
        )
        texts = policy.texts(made.response)
        total += sum(sum(task.reward(t, e).values()) for t, e in zip(texts, examples, strict=True))
    return total / len(examples) / len(lengths)


def _demonstrations(
    policy: Policy, task: Task, examples: list[Example], settings: Pretraining, length: int, seeds: Seeds
) -> Demonstrations:
    """One demonstration for each of `settings.demonstrations` draws of a training example."""
    rng = random.Random(seeds.number("demonstrations", length))
    prompts, texts = [], []
    for _ in range(settings.demonstrations):
        example = rng.choice(examples)
        prompts.append(policy.prompt_ids(task.messages(example), task.prefill))
        texts.append(task.demonstration(example, length, rng.random() < settings.right_share, rng))
    return Demonstrations(*policy.pad(prompts), policy.responses(texts, length))


def _loss(model: torch.nn.Module, data: Demonstrations, batch_size: int, generator: torch.Generator) -> Tensor:
    """Mean cross-entropy over masked response tokens of a random batch; mask shares t are spread evenly over (0, 1]."""
    rows = torch.randint(len(data.response), (batch_size,), generator=generator)
    prompt, prompt_mask, response = data.prompt[rows], data.prompt_mask[rows], data.response[rows]
    share = (torch.arange(batch_size) + torch.rand(1, generator=generator)) / batch_size
    masked = torch.rand(response.shape, generator=generator) < share[:, None].clamp(min=0.02)
    ids = torch.cat((prompt, response.masked_fill(masked, model.config.mask_token_id)), dim=1)
    attention = None if bool(prompt_mask.all()) else F.pad(prompt_mask, (0, response.shape[1]), value=True)
    hidden = model.hidden_states(ids, attention, slice(prompt.shape[1], None))[masked]
    return F.nll_loss(model.log_probs(hidden), response[masked])


def _schedule(update: int, updates: int, warmup: int = 50) -> float:
    """Linear warm-up, then a cosine down to 3 %."""
    return min(1.0, (update + 1) / warmup) * (0.03 + 0.97 * (1 + math.cos(math.pi * update / updates)) / 2)
