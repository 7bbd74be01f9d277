"""Four updates of `Trainer` repeated by a plain loop: one batch, whole logits, AdamW, clipping and schedule by hand.

Nothing of the trainer, the objectives, the surrogates or the optimiser is called here. The responses and the mask draws
are those that the trainer used; all that is computed from them is computed anew.
"""

import math
import zlib
from dataclasses import dataclass, field

import pytest
import torch

from helpers.small_trainer import small_trainer
from unmask.common.seeding import Seeds
from unmask.rl import generation

TRAINING = {
    "buffers": 2,
    "updates_per_buffer": 2,
    "prompts_per_buffer": 2,
    "group_size": 4,
    "micro_batch_size": 3,  # parts of 3, 3 and 2 rows: the gradient is accumulated
    "learning_rate": 0.02,
    "max_grad_norm": 0.3,  # of norms from 0.14 to 2
    "adam_beta1": 0.6,
    "adam_beta2": 0.9,
    "weight_decay": 0.1,
    "schedule": "cosine",
    "warmup_ratio": 0.3,  # of 4 updates: two
    "lora_dropout": 0.0,
    "validate_every": 0,
}
CLIP, KL, ALPHA, STRENGTH = 0.2, 0.3, 0.5, 0.7
SETTINGS = {
    "diffu_grpo": {"clip": CLIP, "kl_penalty": KL, "prompt_mask": 0.3},
    "coupled_grpo": {"clip": CLIP, "kl_penalty": KL},
    "diffpo": {"clip": CLIP, "kl_penalty": KL, "clamp": 1.1},
    "dmpo": {"alpha": ALPHA, "baseline": "group", "baseline_strength": STRENGTH, "masks": "uniform"},
}


@dataclass
class Record:
    """What a training drew, in the order in which it drew it."""

    examples: list = field(default_factory=list)
    buffers: list = field(default_factory=list)
    buffer_data: list = field(default_factory=list)
    update_data: list = field(default_factory=list)
    start: dict = field(default_factory=dict)


def record(monkeypatch, method):
    """Note what `collect`, `prepare` and `refresh` of the class of a method are given and return."""
    seen, kind = Record(), type(method)
    collect, prepare, refresh = kind.collect, kind.prepare, kind.refresh

    def noted_collect(self, policy, task, examples, settings, seeds):
        if not seen.buffers:
            seen.start = {name: p.detach().clone() for name, p in policy.trainable().items()}
        seen.examples.append(examples)
        seen.buffers.append(collect(self, policy, task, examples, settings, seeds))
        return seen.buffers[-1]

    def noted_prepare(self, *given):
        seen.buffer_data.append(prepare(self, *given))
        return seen.buffer_data[-1]

    def noted_refresh(self, *given):
        seen.update_data.append(refresh(self, *given))
        return seen.update_data[-1]

    monkeypatch.setattr(kind, "collect", noted_collect)
    monkeypatch.setattr(kind, "prepare", noted_prepare)
    monkeypatch.setattr(kind, "refresh", noted_refresh)
    return seen


# --- log-probabilities ------------------------------------------------------------------------------------------------


def log_probs(model, buffer, masked, drop=None):
    """Log π(o_d | …) [B, L] of the tokens of the responses, where `masked` [B, L] of them are hidden."""
    prompt = buffer.prompt if drop is None else torch.where(drop, 0, buffer.prompt)
    noisy = torch.where(masked, 0, buffer.response)
    ids = torch.cat((prompt, noisy), 1)
    seen = torch.cat((buffer.prompt_mask, torch.ones_like(noisy, dtype=torch.bool)), 1)
    logits = model(ids, seen)[:, prompt.shape[1] :, 1:]  # [MASK] is token 0 and never said
    chosen = logits.gather(2, buffer.response[:, :, None] - 1)[:, :, 0]
    return chosen - logits.logsumexp(2)


def surrogate(name, model, buffer, update_data):
    """The token scores [B, L] of a method of the GRPO family on its own masks."""
    everything = torch.ones_like(buffer.response, dtype=torch.bool)
    if name == "diffu_grpo":
        return log_probs(model, buffer, everything, update_data.masks["drop"])
    whole = log_probs(model, buffer, everything)
    if name == "coupled_grpo":
        first, rate = update_data.masks["first"], update_data.masks["rate"][:, None]
        one, two = log_probs(model, buffer, first), log_probs(model, buffer, ~first)
        return torch.where(first, whole + one / rate, whole + two / (1 - rate)) / 2
    later = buffer.unmask_step >= update_data.masks["tau"][:, None]
    return torch.where(later, log_probs(model, buffer, later), whole)


def elbo(model, buffer, masked):
    """The ELBO of each masked copy [B, K], from antithetic masks [B, K, L]: (L + 1)/m times the sum over the masked."""
    found = []
    for k in range(masked.shape[1]):
        size = masked[:, k].sum(1)
        total = (log_probs(model, buffer, masked[:, k]) * masked[:, k]).sum(1)
        found.append(torch.where(size > 0, total * (buffer.length + 1) / size.clamp(min=1), 0.0))
    return torch.stack(found, 1)


# --- losses -----------------------------------------------------------------------------------------------------------


def grpo_loss(name, new, old, reference, buffer):
    """Mean over the loss mask of −min(ρA, clip(ρ)A) + β (exp(δ) − δ − 1), with DiFFPO's importance weight."""
    advantage = []
    for row in range(len(buffer)):
        group = buffer.reward[row // 4 * 4 : row // 4 * 4 + 4]
        mean = group.mean() if name != "coupled_grpo" else (group.sum() - buffer.reward[row]) / 3
        advantage.append(buffer.reward[row] - mean)
    advantage = torch.stack(advantage)[:, None]
    ratio = torch.exp(new - old)
    policy = torch.minimum(ratio * advantage, torch.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage)
    if name == "diffpo":
        policy = policy * torch.clip(torch.exp(old - buffer.log_prob_t1), max=1.1)
    delta = reference - new
    each = -policy + KL * (torch.exp(delta) - delta - 1)
    ended = torch.cumsum((buffer.response == 1).int(), 1) - (buffer.response == 1).int()  # ends before the token
    return each[ended == 0].sum() / (ended == 0).sum()


def dmpo_weights(old, reference, reward):
    """w − s [B] with w = G · softmax over the group of r/α + log p_ref − log p_old."""
    groups = (reward / ALPHA + reference - old).view(-1, 4)
    return (4 * torch.exp(groups) / torch.exp(groups).sum(1, keepdim=True)).flatten() - STRENGTH


# --- the loop ---------------------------------------------------------------------------------------------------------


def rate(update):
    """Two updates of warm-up, then a cosine that would end at a tenth after the fourth."""
    return 0.02 * [1 / 2, 1.0, 1.0, 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2][update]


def replay(name, policy, seen):
    """Train `policy` from where the record starts; returns losses and norms of the gradient before clipping."""
    model, parameters = policy.model, policy.trainable()
    for key, p in parameters.items():
        p.data = seen.start[key].clone()
    first = {key: torch.zeros_like(p) for key, p in parameters.items()}
    second = {key: torch.zeros_like(p) for key, p in parameters.items()}
    losses, norms = [], []

    def at(values, function, *given):
        """function(*given) of the policy with other values of its parameters, without gradients."""
        held = {key: p.data for key, p in parameters.items()}
        for key, p in parameters.items():
            p.data = values[key]
        with torch.no_grad():
            found = function(*given)
        for key, p in parameters.items():
            p.data = held[key]
        return found

    for update in range(4):
        buffer, update_data = seen.buffers[update // 2], seen.update_data[update]
        if update % 2 == 0:
            before = {key: p.detach().clone() for key, p in parameters.items()}
            if name == "dmpo":
                masks = seen.buffer_data[update // 2].likelihoods.copies.masked
                old, reference = (at(values, elbo, model, buffer, masks).mean(1) for values in (before, seen.start))
                weights = dmpo_weights(old, reference, buffer.reward)
        if name == "dmpo":
            copies = elbo(model, buffer, update_data.copies.masked) / buffer.length
            loss = -(weights * copies.mean(1)).mean()
        else:
            scored = (name, model, buffer, update_data)
            old, reference = (at(values, surrogate, *scored) for values in (before, seen.start))
            loss = grpo_loss(name, surrogate(*scored), old, reference, buffer)
        gradients = dict(zip(parameters, torch.autograd.grad(loss, parameters.values()), strict=True))
        norm = math.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients.values()))
        for key, p in parameters.items():
            g = gradients[key] * min(1.0, 0.3 / norm)
            first[key] = 0.6 * first[key] + 0.4 * g
            second[key] = 0.9 * second[key] + 0.1 * g**2
            mean, square = first[key] / (1 - 0.6 ** (update + 1)), second[key] / (1 - 0.9 ** (update + 1))
            p.data = p.data - rate(update) * (mean / (square.sqrt() + 1e-8) + 0.1 * p.data)
        losses.append(loss.item())
        norms.append(norm)
    return losses, norms


@pytest.mark.parametrize("name", SETTINGS)
def test_a_plain_loop_ends_at_the_same_parameters(config, policy, sudoku, tmp_path, monkeypatch, name):
    monkeypatch.setattr(generation, "total_reward", lambda task, text, example: zlib.crc32(text.encode()) % 5 / 4)
    one = small_trainer(config, policy, sudoku, tmp_path, name, SETTINGS[name], **TRAINING)
    seen = record(monkeypatch, one.method)
    metrics = one.train()
    trained = {key: p.detach().clone() for key, p in policy.trainable().items()}
    losses, norms = replay(name, policy, seen)
    again = {key: p.detach() for key, p in policy.trainable().items()}
    moved = max(float((trained[key] - seen.start[key]).abs().max()) for key in trained)
    apart = max(float((trained[key] - again[key]).abs().max()) for key in trained)
    print(f"{name}: parameters moved by {moved:.3g} and are {apart:.1g} apart")
    assert [row["loss"] for row in metrics] == pytest.approx(losses, abs=2e-6)
    assert [row["grad_norm"] for row in metrics] == pytest.approx(norms, rel=1e-4)
    assert min(norms) < 0.3 < max(norms)  # with and without clipping
    assert name == "dmpo" or max(row["clipped"] for row in metrics) > 0  # of ratios
    assert moved > 0.05
    assert apart < 3e-5  # Adam divides rounding by the root of small squares


def test_each_pass_over_the_examples_has_an_order_of_its_own(config, policy, sudoku, tmp_path):
    """16 examples, two a buffer: eight buffers are a pass. Each example is in each pass once."""
    one = small_trainer(config, policy, sudoku, tmp_path, "dmpo", buffers=24, prompts_per_buffer=2)
    questions = [example["question"] for buffer in range(24) for example in one._prompts(buffer)]
    passes = [questions[start : start + 16] for start in (0, 16, 32)]
    whole = sorted(example["question"] for example in one.examples)
    assert [sorted(one) for one in passes] == [whole] * 3
    assert len({tuple(one) for one in passes}) == 3
    for number, found in enumerate(passes):
        order = torch.randperm(16, generator=Seeds(("train", one.run.seed)).generator("epoch", number))
        assert found == [one.examples[index]["question"] for index in order.tolist()]


def test_each_update_has_masks_of_its_own(config, policy, sudoku, tmp_path, monkeypatch):
    one = small_trainer(config, policy, sudoku, tmp_path, "dmpo", SETTINGS["dmpo"], **TRAINING)
    seen = record(monkeypatch, one.method)
    one.train()
    assert len({tuple(update_data.copies.masked.flatten().tolist()) for update_data in seen.update_data}) == 4
