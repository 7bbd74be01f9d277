"""Train a tiny base model from scratch by masked denoising on demonstrations of its task.

In the first part most demonstrations are right, until the model has learnt the right way; then most take a plausible
shortcut, until it seldom goes the right way. That leaves room for RL, which is tested on elicitation rather than on
learning a new skill. A base model is accepted only if its competence after the first part and its quality at the end
lie inside their gates; otherwise the step fails.

A model shared by several tasks sees a batch of each at every update and must pass the gates of each.

The loss is the diffusion bound without the 1/t weight (every masked token counts the same), which learns faster at this
size and has the same optimum, p(token | unmasked tokens). The body's matrices are trained with Muon, the rest with
AdamW.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from unmask.common.errors import InputError
from unmask.common.progress import Progress
from unmask.common.random_streams import Streams
from unmask.common.seeding import Seeds
from unmask.config.schema.models import Pretraining
from unmask.config.schema.samplers import TopK
from unmask.models.policy import Policy
from unmask.rl.generation import encode_prompts, respond
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import Example, Task, name_of, total_reward
from unmask.training.optimizer import set_rates

ONE_TOKEN_PER_STEP = TopK(tokens_per_step=1, score="confidence")


@dataclass
class Demonstrations:
    """Tokenised demonstrations of one response length."""

    prompt: Tensor  # [N, P]
    prompt_mask: Tensor  # [N, P]
    grade: Tensor  # [N] `shortcut_grade` of the problem, from 0 for the lowest to 1 for the highest
    right: Tensor  # [N, L] right responses
    shortcut: Tensor  # [N, L] responses that take the shortcut


class TaskData(NamedTuple):
    """Task with its examples and pretraining settings."""

    task: Task
    train: list[Example]
    validation: list[Example]
    settings: Pretraining

    @property
    def switch(self) -> int:
        """First update of the second part, in which most demonstrations take the shortcut."""
        return round(self.settings.first_part * self.settings.updates)

    def right_share(self, update: int, grade: Tensor) -> Tensor:
        """Return the share of right demonstrations at an update for problems of these grades [N], from 0 to 1."""
        s = self.settings
        if update < self.switch:
            return torch.full_like(grade, s.first_share)
        if s.last_share is None:
            return torch.full_like(grade, s.right_share)
        # Linear log-odds: the shortcut becomes the habit problem by problem, and RL can undo it problem by problem.
        lowest, highest = torch.logit(torch.tensor([s.right_share, s.last_share]))
        return torch.sigmoid(lowest + (highest - lowest) * grade)


def pretrain(
    policy: Policy, lessons: list[TaskData], lengths: list[int], block_length: int, seeds: Seeds, name: str
) -> dict[str, Any]:
    """Train policy.model in place; return competence and quality per task. Raises InputError outside the gates.

    The lessons share the settings that a model has only once: updates, learning rates, dtype (settings.ONCE).
    """
    model = policy.model.requires_grad_(True)
    common = lessons[0].settings
    data = []
    for lesson in lessons:
        data.append([_demonstrations(policy, lesson, length, seeds) for length in lengths])
    optimizers = _optimizers(model, common)
    generator = seeds.generator("batches")
    progress = Progress(name, common.updates)
    competence: dict[str, float] = {}

    for update in range(common.updates):
        # Competence is measured right before a task switches to shortcuts, when the model is at its best.
        for lesson in lessons:
            if update == lesson.switch:
                competence[name_of(lesson.task)] = measure(policy, lesson, lengths, block_length)

        # One batch per task with equal weight; lengths alternate, because a batch holds responses of one length.
        model.train()
        losses = []
        for by_length, lesson in zip(data, lessons, strict=True):
            demonstrations = by_length[update % len(lengths)]
            losses.append(_loss(model, demonstrations, lesson, update, generator))
        loss = torch.stack(losses).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            set_rates(optimizer, _schedule(update, common.updates))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.show(update + 1, loss=loss.item())

    return accept(policy, lessons, lengths, block_length, name, competence) | {"updates": common.updates}


def accept(
    policy: Policy,
    lessons: list[TaskData],
    lengths: list[int],
    block_length: int,
    name: str,
    competence: dict[str, float],
) -> dict[str, Any]:
    """Measure the quality of a finished model; return it with its competence. Raises InputError outside the gates."""
    quality = {}
    for lesson in lessons:
        quality[name_of(lesson.task)] = measure(policy, lesson, lengths, block_length)
    competence = quality | competence  # a task that never switched is only measured at the end
    _check_gates(name, lessons, competence, quality)
    return {"competence": _rounded(competence), "quality": _rounded(quality)}


def _check_gates(name: str, lessons: list[TaskData], competence: dict[str, float], quality: dict[str, float]) -> None:
    """Raise InputError if a task was not learnt, or was learnt too well to leave room for RL."""
    for lesson in lessons:
        task, settings = name_of(lesson.task), lesson.settings
        able, good, (low, high) = competence[task], quality[task], settings.gate
        print(f"{name}: {task}: competence {able:.3f}, quality {good:.3f}", flush=True)
        if not (able >= settings.competence and low <= good <= high):
            raise InputError(
                f"{name}: not a usable base for {task}. Mean greedy reward on validation: {able:.3f} after the first "
                f"part (at least {settings.competence} required), {good:.3f} at the end "
                f"(gate [{low}, {high}]). Change updates, first_part, first_share, right_share, last_share or the "
                "gates under models.*.pretraining in config.yaml."
            )


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {task: round(value, 4) for task, value in values.items()}


def measure(policy: Policy, lesson: TaskData, lengths: list[int], block_length: int) -> float:
    """Return the mean reward of greedy decoding on the validation examples, one token per step, over all lengths."""
    task, examples = lesson.task, lesson.validation
    total = 0.0
    for length in lengths:
        settings = DecodingSettings(length, block_length, ONE_TOKEN_PER_STEP, temperature=0.0)
        rows = torch.arange(len(examples), device=policy.model.device)
        _, texts = respond(policy, task, examples, settings, Streams.of(0, rows))
        rewards = [total_reward(task, text, example) for text, example in zip(texts, examples, strict=True)]
        total += sum(rewards)
    return total / len(examples) / len(lengths)


def _demonstrations(policy: Policy, lesson: TaskData, length: int, seeds: Seeds) -> Demonstrations:
    """Make a right and a shortcut demonstration for each of `settings.demonstrations` draws of a training example."""
    rng = random.Random(seeds.number("demonstrations", length))
    # Both kinds for the same prompts: a batch then mixes them row by row without tokenising again.
    chosen = [rng.choice(lesson.train) for _ in range(lesson.settings.demonstrations)]
    responses = []
    for is_right in (True, False):
        texts = [lesson.task.demonstration(example, length, is_right, rng) for example in chosen]
        responses.append(policy.responses(texts, length))
    right, shortcut = responses
    prompt, prompt_mask = encode_prompts(policy, lesson.task, chosen, length)
    grades = torch.tensor([lesson.task.shortcut_grade(example) for example in chosen])
    low, high = grades.min(), grades.max()
    return Demonstrations(prompt, prompt_mask, (grades - low) / (high - low).clamp(min=1e-9), right, shortcut)


def _optimizers(model: torch.nn.Module, settings: Pretraining) -> list[torch.optim.Optimizer]:
    """Return AdamW for embeddings, head and norms, and Muon for the matrices of the body."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and ".layers." in name
        chosen = matrices if is_matrix else others
        chosen.append(parameter)
    adamw = torch.optim.AdamW(
        others, settings.learning_rate, (0.9, settings.adam_beta2), weight_decay=settings.weight_decay
    )
    muon = torch.optim.Muon(matrices, settings.muon_learning_rate, weight_decay=settings.weight_decay)
    for optimizer in (adamw, muon):
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return [adamw, muon]


def _loss(
    model: torch.nn.Module, data: Demonstrations, lesson: TaskData, update: int, generator: torch.Generator
) -> Tensor:
    """Compute the mean cross-entropy over the masked response tokens of a random batch."""
    # Drawn on the CPU, so that the batch is the same on any device.
    settings = lesson.settings
    batch_size = settings.batch_size
    rows = torch.randint(len(data.right), (batch_size,), generator=generator)
    share = lesson.right_share(update, data.grade[rows])
    right = torch.rand(batch_size, 1, generator=generator) < share[:, None]

    # Mask ratios t are stratified over [0, 1), which lowers the variance against independent draws. The lower bound
    # avoids rows with almost nothing masked.
    offset = torch.rand(1, generator=generator)
    ratio = (torch.arange(batch_size) + offset) / batch_size
    noise = torch.rand((batch_size, data.right.shape[1]), generator=generator)
    masked = noise < ratio[:, None].clamp(min=0.02)

    device = data.right.device
    rows, right, masked = rows.to(device), right.to(device), masked.to(device)
    response = torch.where(right, data.right[rows], data.shortcut[rows])
    noisy = response.masked_fill(masked, model.config.mask_token_id)
    prompt, prompt_mask = data.prompt[rows], data.prompt_mask[rows]

    # Without padding no mask is passed, which allows faster attention kernels.
    attention = None
    if not bool(prompt_mask.all()):
        attention = F.pad(prompt_mask, (0, response.shape[1]), value=True)
    ids = torch.cat((prompt, noisy), dim=1)
    response_columns = slice(prompt.shape[1], None)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.dtype == "bfloat16"):
        hidden = model.hidden_states(ids, attention, response_columns)[masked]
    log_probs = model.target_log_probs(hidden.float(), response[masked])
    return -log_probs.mean()


def _schedule(update: int, updates: int, warmup: int = 50) -> float:
    """Return the learning-rate factor: linear warm-up, then cosine decay to 3 %."""
    cosine = (1 + math.cos(math.pi * update / updates)) / 2
    return min(1.0, (update + 1) / warmup) * (0.03 + 0.97 * cosine)
