"""What the released trainers average over, and what their micro-steps and micro-batches share."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from helpers.every_method import COUPLED, DIFFU, DMPO, SEEDS
from unmask.common.seeding import Seeds
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.methods import coupled_grpo, diffu_grpo
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.training.tabular import sample


@pytest.fixture
def even():
    """A policy over two tokens and two positions."""
    policy = Policy(TabularModel(2, 2, 0.0, torch.Generator()), tokenizer=None)
    policy.set_reference()
    return policy


def test_released_coupled_index_sees_one_pair_of_masks(even):
    """A device's two micro-batches of 5 rows follow one another: each half of a group of 10 has its own pair."""
    rollouts = sample(even.model, torch.rand(4), 2, 10, Seeds((0,)))
    method = replace(COUPLED, mask_index="micro_step", micro_batch_rows=5)
    buffer_data = method.prepare(even, rollouts, 2, SEEDS)
    buffer_data = replace(buffer_data, old=torch.arange(2)[None, :, None].expand(20, 2, 2))
    old = [method.refresh(even, rollouts, buffer_data, u, SEEDS).old[:, 0] for u in range(2)]
    assert [sorted(set(row)) for row in torch.stack(old, 1).tolist()] == ([[0]] * 5 + [[1]] * 5) * 2


def test_micro_steps_need_micro_batches(config):
    """Without, all rows would have the index of the first micro-step, and two updates the same masks."""
    config["methods"]["coupled_grpo"]["mask_index"] = "micro_step"
    with pytest.raises(ConfigError, match=r"methods.coupled_grpo.mask_index, .*; set micro_batch_rows, or mask_index:"):
        expand(config)
    config["methods"]["coupled_grpo"]["micro_batch_rows"] = 4
    assert expand(config).runs


@pytest.mark.parametrize(
    ("mask_rate", "rows", "rates"), [("response", 5, 20), ("micro_batch", 5, 4), ("micro_batch", 0, 1)]
)
def test_rows_of_a_micro_batch_share_a_masking_rate(even, mask_rate, rows, rates):
    rollouts = sample(even.model, torch.rand(4), 2, 10, Seeds((0,)))
    method = replace(COUPLED, mask_rate=mask_rate, micro_batch_rows=rows)
    rate = method.prepare(even, rollouts, 2, SEEDS).masks["rate"]
    assert [len(rate[:, update].unique()) for update in range(2)] == [rates, rates]
    assert (rate.view(rates, -1, 2) == rate.view(rates, -1, 2)[:, :1]).all()


@pytest.mark.parametrize(("name", "released"), [("diffu_grpo", DIFFU), ("coupled_grpo", COUPLED)])
def test_tokens_are_averaged_by_micro_batch_as_released(name, released):
    """The gradient is that of the mean over micro-batches of (loss · mask).sum() / mask.sum(), spelt out here.

    d1 837888f, diffu_grpo_trainer.py:121 and ml-diffucoder f735e01, coupled_grpo.py:224, under accumulation and the
    mean over devices.
    """
    grads = {}
    for rows in (0, 4):
        model = TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0))
        policy = Policy(model, tokenizer=None)
        policy.set_reference()
        rollouts = sample(model, torch.rand(81, generator=torch.Generator().manual_seed(1)), 2, 6, SEEDS)
        length = torch.tensor([1, 1, 1, 1, 4, 4, 4, 4, 1, 4, 2, 3])  # very uneven
        rollouts.loss_mask = (torch.arange(4) < length[:, None]).float()
        method = replace(released, micro_batch_rows=rows, kl_penalty=0.1)
        buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
        model.table.data += 0.1 * torch.randn(model.table.shape, generator=torch.Generator().manual_seed(2))
        update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
        method.loss(policy, rollouts, buffer_data, update_data)[0].sum().backward()
        grads[rows] = model.table.grad.clone()
        model.table.grad = None
    losses = []
    advantage, new = buffer_data.advantage[:, None], score_of(name)(model, rollouts, update_data.masks)
    ratio = (new - update_data.old).exp()
    kl = (update_data.reference - new).exp() - (update_data.reference - new) - 1
    each = -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage) + 0.1 * kl
    for device in range(3):
        mask = rollouts.loss_mask[4 * device : 4 * device + 4]
        losses.append((each[4 * device : 4 * device + 4] * mask).sum() / mask.sum())
    (sum(losses) / 3).backward()
    assert_close(grads[4], model.table.grad)
    assert torch.nn.functional.cosine_similarity(grads[0].flatten(), grads[4].flatten(), dim=0) < 0.99


def score_of(name):
    return diffu_grpo._score if name == "diffu_grpo" else coupled_grpo._score


@pytest.mark.parametrize(("rows", "factor"), [(4, 4), (8, 2)])
def test_the_released_wdce_is_a_sum_over_a_devices_rows(even, rows, factor):
    """DMPO 96af1a4, dmpo_trainer.py:182: weights sum to 1 over a group of 16, the loss is a sum over a device's rows.

    With 4 a device and 64 rows (4 prompts) the mean over 16 micro-batches is a quarter of ours, with 8 a device and 128
    rows (8 prompts) a half: `max_grad_norm` at the same value then acts at a fourth, or half, of the norm.
    """
    prompts = rows  # 8 devices, 2 accumulation steps: 16 · rows / 16
    rollouts = sample(even.model, torch.rand(4), prompts, 16, Seeds((0,)))
    ours, theirs = (replace(DMPO, baseline="individual", micro_batch_rows=n) for n in (0, rows))
    buffer_data = ours.prepare(even, rollouts, 1, SEEDS)
    update_data = ours.refresh(even, rollouts, buffer_data, 0, SEEDS)
    with torch.no_grad():
        plain, scaled = (m.loss(even, rollouts, buffer_data, update_data)[0] for m in (ours, theirs))
    assert_close(plain, factor * scaled)
    # Released, spelt out: softmax weights, one loss a micro-batch, their mean.
    of_row = plain * len(rollouts) / update_data.weight_real
    released = (of_row * update_data.weight_real / 16).view(-1, rows).sum(1).mean()
    assert_close(scaled.sum(), released)
