"""Data of a buffer: parts of it, and the way through a checkpoint, for every method."""

from dataclasses import dataclass

import pytest
import torch

from helpers.every_method import LOSSES, SEEDS
from unmask.common.seeding import Seeds
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.rl.buffer_data import leaves, restore, take
from unmask.training.checkpoint import flatten, unflatten
from unmask.training.tabular import sample


@dataclass(frozen=True)
class Inner:
    """A pair of tensors."""

    one: torch.Tensor
    other: torch.Tensor | None = None


@dataclass(frozen=True)
class Outer:
    """A tensor, a dictionary and two more dataclasses, and what may be missing, with and without a default."""

    plain: torch.Tensor
    named: dict[str, torch.Tensor]
    inner: Inner
    unset: torch.Tensor | None
    missing: Inner | None = None


DATA = Outer(torch.arange(4), {"a": torch.ones(4, 2), "b": torch.zeros(4)}, Inner(torch.arange(8).view(4, 2)), None)


def test_names_are_dotted_and_what_is_missing_has_none():
    assert [name for name, _ in leaves(DATA)] == ["plain", "named.a", "named.b", "inner.one"]


def test_a_part_has_the_rows_of_every_tensor():
    part = take(DATA, slice(1, 3))
    assert part.plain.tolist() == [1, 2]
    assert part.inner.one.tolist() == [[2, 3], [4, 5]]
    assert (part.named["a"].shape, part.missing, part.inner.other) == ((2, 2), None, None)


def test_a_checkpoint_gives_back_the_same_tensors():
    saved = dict(sorted(flatten(data=dict(leaves(DATA)), rollouts={"plain": torch.zeros(1)}).items(), reverse=True))
    found = restore(Outer, unflatten(saved, "data"))
    assert isinstance(found.inner, Inner)
    assert found.missing is None
    assert found.unset is None
    assert dict(leaves(found)).keys() == dict(leaves(DATA)).keys()
    assert all(value is dict(leaves(DATA))[name] for name, value in leaves(found))


@pytest.mark.parametrize("name", LOSSES)
def test_every_method_computes_the_same_from_what_a_checkpoint_gives_back(name):
    method = LOSSES[name]
    policy = Policy(TabularModel(3, 4, 1.0, torch.Generator().manual_seed(0)), tokenizer=None)
    policy.set_reference()
    rollouts = sample(policy.model, torch.rand(81), 3, 4, Seeds((1,)))
    buffer_data = method.prepare(policy, rollouts, 2, SEEDS)
    again = restore(method.buffer_type, dict(leaves(buffer_data)))
    assert type(again) is type(buffer_data)
    results = []
    for data in (buffer_data, again):
        update_data = method.refresh(policy, rollouts, data, 1, SEEDS)
        results.append(method.loss(policy, rollouts, data, update_data))
    (expected, logged), (rows, metrics) = results
    assert torch.equal(rows, expected)
    assert list(metrics) == list(logged)
    assert all(torch.equal(value, logged[key]) for key, value in metrics.items())
