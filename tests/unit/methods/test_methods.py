"""What every method must do: parts and terms that add up to its loss, a step that raises what was rewarded."""

import contextlib
import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from helpers.every_method import DMPO, LOSSES, RL, SEEDS
from helpers.streams import streams
from unmask.common.seeding import Seeds
from unmask.config.grid.expand import expand
from unmask.config.schema.samplers import RandomOrder
from unmask.methods.dmpo import Dmpo
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel, all_responses, log_likelihood
from unmask.rl.buffer_data import leaves, take
from unmask.rl.rollouts import Rollouts, loss_mask
from unmask.samplers.decode import decode
from unmask.samplers.settings import DecodingSettings
from unmask.training.tabular import sample
from unmask.training.trainer import Trainer


@pytest.mark.parametrize("name", LOSSES)
def test_parts_of_a_buffer_add_up(name):
    method = LOSSES[name]
    model = TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0))
    policy = Policy(model, tokenizer=None)
    policy.set_reference()
    rollouts = sample(model, torch.rand(81), 3, 4, Seeds((1,)))
    rollouts.micro_batch_size = 5
    buffer_data = method.prepare(policy, rollouts, 2, SEEDS)
    model.table.data += 0.1 * torch.randn(model.table.shape, generator=torch.Generator().manual_seed(2))
    update_data = method.refresh(policy, rollouts, buffer_data, 1, SEEDS)
    whole, metrics = method.loss(policy, rollouts, buffer_data, update_data)
    parts = []
    for part in (slice(0, 5), slice(5, 12)):
        some = rollouts.part(part), take(buffer_data, part), take(update_data, part)
        parts.append(method.loss(policy, *some))
    assert_close(torch.cat([rows for rows, _ in parts]), whole)
    for key, value in metrics.items():
        assert_close(torch.cat([logged[key] for _, logged in parts]), value)


@pytest.mark.parametrize("name", LOSSES)
def test_the_size_of_micro_batches_changes_no_mask_and_no_loss(name):
    """Draws are for the whole buffer, whatever fits into a forward pass."""
    method, found = LOSSES[name], []
    for size in (1, 5, 100):
        model = TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0))
        policy = Policy(model, tokenizer=None)
        policy.set_reference()
        rollouts = sample(model, torch.rand(81, generator=torch.Generator().manual_seed(3)), 3, 4, Seeds((1,)))
        rollouts.micro_batch_size = size
        buffer_data = method.prepare(policy, rollouts, 2, SEEDS)
        model.table.data += 0.1 * torch.randn(model.table.shape, generator=torch.Generator().manual_seed(2))
        update_data = method.refresh(policy, rollouts, buffer_data, 1, SEEDS)
        drawn = [*leaves(buffer_data), *leaves(update_data)]
        found.append((drawn, method.loss(policy, rollouts, buffer_data, update_data)[0]))
    (expected, whole), *others = found
    for drawn, rows in others:
        assert_close(rows, whole)
        for (name_of, value), (_, wanted) in zip(drawn, expected, strict=True):
            assert_close(value, wanted, msg=name_of)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("bound", [12, 24, 36, 100])
def test_terms_of_a_loss_are_the_loss(name, bound):
    """Value, metrics and gradient, whatever `micro_batch_size` allows of 12 responses with their copies at once."""
    method = LOSSES[name]
    policy = Policy(TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)), tokenizer=None)
    policy.set_reference()
    rollouts = sample(policy.model, torch.rand(81), 3, 4, Seeds((1,)))
    rollouts.micro_batch_size = bound
    buffer_data = method.prepare(policy, rollouts, 2, SEEDS)
    policy.model.table.data += 0.1 * torch.randn(policy.model.table.shape, generator=torch.Generator().manual_seed(2))
    some = rollouts, buffer_data, method.refresh(policy, rollouts, buffer_data, 1, SEEDS)
    whole, metrics = method.loss(policy, *some)
    (gradient,) = torch.autograd.grad(whole.sum(), policy.model.table)
    terms = list(method.losses(policy, *some))
    assert_close(sum(rows for rows, _ in terms), whole)
    assert_close(torch.autograd.grad(sum(rows.sum() for rows, _ in terms), policy.model.table)[0], gradient)
    assert {key for _, found in terms for key in found} == metrics.keys()
    for key, value in metrics.items():
        assert_close(sum(found[key] for _, found in terms if key in found), value)
    passes = method.passes(2, 4)
    assert len(terms) == (math.ceil(passes.copies / (bound // 12)) if passes.apart else 1)


@pytest.mark.parametrize("name", LOSSES)
def test_the_passes_of_a_loss_depend_on_the_number_of_rows_alone(name, monkeypatch):
    """Whatever the rows are: processes that share a model make each pass together (models/sharding.py)."""
    method = LOSSES[name]
    policy = Policy(TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)), tokenizer=None)
    policy.set_reference()
    rollouts = sample(policy.model, torch.rand(81), 3, 4, Seeds((1,)))
    rollouts.micro_batch_size = 8
    buffer_data = method.prepare(policy, rollouts, 2, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, 1, SEEDS)
    # In one share everything ended at once and nothing is learnt from it.
    rollouts.unmask_step[:6], rollouts.nfe[:6], rollouts.reward[:6] = 0, 1, 0.0
    rollouts.loss_mask[:6, 1:] = 0.0
    passes, whole = [], policy.model.hidden_states
    monkeypatch.setattr(policy.model, "hidden_states", lambda *given: passes.append(len(given[0])) or whole(*given))
    counts = []
    for share in (slice(0, 6), slice(6, 12)):
        some = rollouts.part(share), take(buffer_data, share), take(update_data, share)
        passes.clear()
        terms = [len(rows) for rows, _ in method.losses(policy, *some)]
        counts.append((list(passes), terms))
    assert counts[0] == counts[1]
    assert counts[0][0]


@pytest.mark.parametrize("bound", [5, 12, 24])
def test_no_pass_of_dmpo_has_more_than_micro_batch_size(bound, monkeypatch):
    """Responses and their masked copies alike, in scoring and in the gradient; the parts are as the trainer's."""
    policy = Policy(TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)), tokenizer=None)
    policy.set_reference()
    rollouts = sample(policy.model, torch.rand(81), 3, 4, Seeds((1,)))
    rollouts.micro_batch_size = bound
    seen, whole = [], policy.model.hidden_states
    monkeypatch.setattr(
        policy.model, "hidden_states", lambda ids, *others: seen.append(len(ids)) or whole(ids, *others)
    )
    method = replace(DMPO, baseline="model")
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    for part in rollouts.parts():
        some = rollouts.part(part), take(buffer_data, part), take(update_data, part)
        assert [rows.shape for rows, _ in method.losses(policy, *some)]
    assert max(seen) <= bound
    assert sum(seen) == 12 * 4 * (2 + 1 + 1)  # old, reference and current likelihood, and the loss


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_reach_the_adapter_and_nothing_else(policy, name):
    method = LOSSES[name]
    policy.make_trainable(rank=2, alpha=4, dropout=0.0, targets=["q_proj", "down_proj"], seed=0)
    prompt, mask = policy.pad([[10, 11, 12], [13]] * 4)
    settings = DecodingSettings(8, 8, RandomOrder(), temperature=1.0)
    made = decode(policy.model, prompt, mask, settings, eot=policy.eot, streams=streams(8))
    reward = torch.arange(8.0)
    rollouts = Rollouts(
        prompt, mask, **vars(made), reward=reward, correct=reward, loss_mask=loss_mask(made.response, policy.eot),
        group_size=4, buffer_rows=8, micro_batch_size=3,
    )  # fmt: skip
    buffer_data = method.prepare(policy, rollouts, 1, SEEDS)
    update_data = method.refresh(policy, rollouts, buffer_data, 0, SEEDS)
    assert all(not value.requires_grad for data in (buffer_data, update_data) for _, value in leaves(data))
    method.loss(policy, rollouts, buffer_data, update_data)[0].sum().backward()
    parameters = dict(policy.model.named_parameters())
    assert policy.trainable().keys() == {name for name, p in parameters.items() if "lora_" in name}
    assert all(p.grad is None for name, p in parameters.items() if "lora_" not in name)
    reached = [name for name, p in parameters.items() if p.grad is not None and p.grad.abs().sum() > 0]
    assert {name.split(".")[-4] for name in reached} == {"q_proj", "down_proj"}


@pytest.mark.parametrize("name", RL)
def test_raising_a_reward_raises_the_log_probability_after_a_step(name):
    """The same buffer and masks with one reward changed; ℓ of the exact table before and after."""
    after = {}
    for raised in (0.0, 1.0):
        model = TabularModel(3, 3, 0.5, torch.Generator().manual_seed(0))
        policy = Policy(model, tokenizer=None)
        policy.set_reference()
        rollouts = sample(model, torch.full((27,), 0.3), 2, 8, Seeds((1,)))
        rollouts.reward[5] += raised
        where = (all_responses(model) == rollouts.response[5]).all(1)
        before = float(log_likelihood(model).detach()[where])
        buffer_data = RL[name].prepare(policy, rollouts, 1, SEEDS)
        update_data = RL[name].refresh(policy, rollouts, buffer_data, 0, SEEDS)
        RL[name].loss(policy, rollouts, buffer_data, update_data)[0].sum().backward()
        model.table.data -= 0.5 * model.table.grad
        after[raised] = float(log_likelihood(model).detach()[where]) - before
    assert after[1.0] > after[0.0] + 1e-3
    assert after[1.0] > 0


# --- in the trainer ---------------------------------------------------------------------------------------------------


@pytest.fixture
def trainer(config, policy, sudoku, tmp_path):
    """A DMPO training of three buffers of two updates; without a baseline it moves even where no response is right."""

    def build(**training):
        config["scales"]["smoke"]["training"] |= {
            "buffers": 3,
            "updates_per_buffer": 2,
        } | training
        run = expand(config).runs["dmpo/sudoku/default/seed-0"]
        splits = sudoku.splits()
        return Trainer(run, policy, DMPO, sudoku, splits["train"], tmp_path, "", held_back=splits["validation"])

    return build


@pytest.mark.parametrize(("reference_sync", "new"), [(0, []), (2, [1, 2]), (4, [2])])
def test_the_reference_follows_every_n_updates(trainer, reference_sync, new):
    """The estimate of KL(old ‖ reference) is exactly zero in a buffer that begins with a new reference."""
    kl = [row["kl"] for row in trainer(reference_sync=reference_sync, learning_rate=0.01).train()][::2]
    assert [value == 0 for value in kl] == [buffer in [0, *new] for buffer in range(3)]


def test_the_reference_moves_by_its_share_also_within_a_buffer(trainer, policy, monkeypatch):
    """At updates 3 and 6 of 6: 0.6 of the policy and 0.4 of the old reference, as TRL's callback has it."""
    seen = []
    original = Policy.set_reference

    def spy(self, mix=1.0):
        seen.append({name: p.detach().clone() for name, p in self.trainable().items()})
        original(self, mix)

    monkeypatch.setattr(Policy, "set_reference", spy)
    trainer(reference_sync=3, reference_mix=0.6, learning_rate=0.01).train()
    assert len(seen) == 3  # the beginning, and twice
    for name, value in policy.snapshot.items():
        first, third, last = (one[name] for one in seen)
        assert_close(value, 0.6 * last + 0.4 * (0.6 * third + 0.4 * first))
    assert any(not torch.equal(value, seen[-1][name]) for name, value in policy.snapshot.items())


def test_the_reference_has_no_dropout_even_where_rollouts_have(policy):
    """`rollout_dropout` leaves the model in training mode; the reference must not depend on draws."""
    policy.make_trainable(rank=2, alpha=4, dropout=0.5, targets=["q_proj"], seed=0)
    for name, p in policy.trainable().items():
        p.data = torch.ones_like(p) if "lora_B" in name else p.data
    policy.set_reference()
    policy.model.train()
    ids, found = torch.arange(2, 10)[None], {}
    for name, context in (("reference", policy.reference), ("policy", contextlib.nullcontext)):
        with context(), torch.no_grad():
            found[name] = [policy.model(ids) for _ in range(2)]
    assert torch.equal(*found["reference"])
    assert not torch.equal(*found["policy"])
    assert policy.model.training


def test_probabilities_are_made_without_dropout_at_every_update(trainer, monkeypatch):
    """Also at the second update of a buffer, after a loss with dropout."""
    seen = []
    for name in ("prepare", "refresh"):
        original = getattr(Dmpo, name)

        def spy(self, policy, *arguments, original=original):
            seen.append(policy.model.training)
            return original(self, policy, *arguments)

        monkeypatch.setattr(Dmpo, name, spy)
    trainer(lora_dropout=0.3).train()
    assert seen == [False] * 9
