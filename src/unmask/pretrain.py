"""Train a tiny base model from scratch by masked denoising on demonstrations of its task.

First most demonstrations are right, until it has learnt the right way; then most take a plausible shortcut, until it
seldom goes the right way. There is room for RL then, and what RL is tested on is elicitation, not a new skill. A base
counts only if its competence after the first part and its quality at the end lie inside their gates; else the step
fails and says so.

The loss is the diffusion bound with the 1/t weight dropped (every masked token counts the same), which learns faster
at this size and has the same optimum, p(token | what is seen). Matrices of the body are trained by Muon, the rest by
AdamW.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.files import InputError
from unmask.models.policy import Policy
from unmask.progress import Progress
from unmask.rollout import posed, respond
from unmask.seeding import Seeds
from unmask.settings import Pretraining
from unmask.tasks import Example, Task, total_reward

Splits = dict[str, list[Example]]


@dataclass
class Demonstrations:
    """Tokenised demonstrations of one length."""

    prompt: Tensor  # [N, P]
    prompt_mask: Tensor  # [N, P]
    right: Tensor  # [N, L] right responses
    shortcut: Tensor  # [N, L] responses that take the shortcut


def pretrain(
    policy: Policy,
    task: Task,
    splits: Splits,
    settings: Pretraining,
    lengths: list[int],
    block_length: int,
    seeds: Seeds,
    name: str,
) -> dict[str, float]:
    """Train policy.model in place. Returns what was measured; raises InputError if that is outside the gate."""
    model = policy.model.requires_grad_(True)
    data = [_demonstrations(policy, task, splits["train"], settings, length, seeds) for length in lengths]
    optimizers = _optimizers(model, settings)
    generator = seeds.generator("batches")
    progress = Progress(name, settings.updates)
    switch = round(settings.first_part * settings.updates)
    competence = math.nan
    for update in range(settings.updates):
        if update == switch:
            competence = measure(policy, task, splits["validation"], lengths, block_length)
        right_share = settings.first_share if update < switch else settings.right_share
        loss = _loss(model.train(), data[update % len(data)], settings.batch_size, right_share, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _schedule(update, settings.updates)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.show(update + 1, loss=loss.item())
    quality = measure(policy, task, splits["validation"], lengths, block_length)
    competence = quality if switch == settings.updates else competence  # there was no mixture
    print(f"{name}: competence {competence:.3f}, quality {quality:.3f}", flush=True)
    low, high = settings.gate
    if not (competence >= settings.competence and low <= quality <= high):
        raise InputError(
            f"{name}: not a usable base. Mean greedy reward on validation: {competence:.3f} after the first "
            f"part (at least {settings.competence} is asked for), {quality:.3f} at the end "
            f"(gate [{low}, {high}]). Change updates, first_part, first_share, right_share or the gates under "
            "models.*.pretraining in config.yaml."
        )
    return {"competence": round(competence, 4), "quality": round(quality, 4), "updates": settings.updates}


def measure(policy: Policy, task: Task, examples: list[Example], lengths: list[int], block_length: int) -> float:
    """Mean reward of greedy decoding, one token a step, over the lengths."""
    decoding: dict[str, Any] = {
        "block_length": block_length,
        "sampler": {"rule": "top_k", "tokens_per_step": 1, "score": "confidence"},
        "temperature": 0.0,
    }
    total = 0.0
    for length in lengths:
        _, texts = respond(policy, task, examples, torch.Generator(), length=length, **decoding)
        total += sum(total_reward(task, t, e) for t, e in zip(texts, examples, strict=True))
    return total / len(examples) / len(lengths)


def _demonstrations(
    policy: Policy, task: Task, examples: list[Example], settings: Pretraining, length: int, seeds: Seeds
) -> Demonstrations:
    """A right and a shortcut demonstration for each of `settings.demonstrations` draws of a training example."""
    rng = random.Random(seeds.number("demonstrations", length))
    chosen = [rng.choice(examples) for _ in range(settings.demonstrations)]
    right, shortcut = (
        policy.responses([task.demonstration(example, length, kind, rng) for example in chosen], length)
        for kind in (True, False)
    )
    return Demonstrations(*posed(policy, task, chosen, length), right, shortcut)


def _optimizers(model: torch.nn.Module, settings: Pretraining) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the body, AdamW for embeddings, head and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in name)]
    adamw = torch.optim.AdamW(
        others, settings.learning_rate, (0.9, settings.adam_beta2), weight_decay=settings.weight_decay
    )
    muon = torch.optim.Muon(matrices, settings.muon_learning_rate, weight_decay=settings.weight_decay)
    for optimizer in (adamw, muon):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return [adamw, muon]


def _loss(
    model: torch.nn.Module, data: Demonstrations, batch_size: int, right_share: float, generator: torch.Generator
) -> Tensor:
    """Mean cross-entropy over masked response tokens of a random batch; mask shares t are spread evenly over (0, 1]."""
    rows = torch.randint(len(data.right), (batch_size,), generator=generator)
    right = torch.rand(batch_size, 1, generator=generator) < right_share
    response = torch.where(right, data.right[rows], data.shortcut[rows])
    share = (torch.arange(batch_size) + torch.rand(1, generator=generator)) / batch_size
    masked = torch.rand(response.shape, generator=generator) < share[:, None].clamp(min=0.02)
    prompt, prompt_mask = data.prompt[rows], data.prompt_mask[rows]
    ids = torch.cat((prompt, response.masked_fill(masked, model.config.mask_token_id)), dim=1)
    attention = None if bool(prompt_mask.all()) else F.pad(prompt_mask, (0, response.shape[1]), value=True)
    hidden = model.hidden_states(ids, attention, slice(prompt.shape[1], None))[masked]
    return -model.target_log_probs(hidden, response[masked]).mean()


def _schedule(update: int, updates: int, warmup: int = 50) -> float:
    """Linear warm-up, then a cosine down to 3 %."""
    return min(1.0, (update + 1) / warmup) * (0.03 + 0.97 * (1 + math.cos(math.pi * update / updates)) / 2)
