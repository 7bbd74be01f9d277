"""LoRA next to a base model in bfloat16: fp32 matrices and gradients, products in bfloat16, everywhere alike."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.published_checkpoints import kinds, write_checkpoint
from unmask.models.policy import Policy

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture
def make(tmp_path):
    """Makes a policy with an adapter that has learnt something, the same values in any type."""

    def policy(kind="llada", dtype="bfloat16", dropout=0.0):
        if not (tmp_path / kind).exists():
            write_checkpoint(tmp_path / kind, kind)
        policy = Policy.load(tmp_path / kind, device="cpu", dtype=dtype)
        policy.make_trainable(rank=4, alpha=8, dropout=dropout, targets=ALL, seed=0)
        with torch.no_grad():
            for name, p in sorted(policy.trainable().items()):
                p.normal_(std=0.05, generator=torch.Generator().manual_seed(len(name)))
        return policy

    return policy


class Products(TorchDispatchMode):
    """The types of all matrix products."""

    def __init__(self):
        super().__init__()
        self.types = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            self.types |= {a.dtype for a in args if isinstance(a, torch.Tensor)}
        return function(*args, **kwargs or {})


def logits(policy, ids):
    with torch.no_grad():
        return policy.model(ids)


@kinds
def test_every_product_is_in_bfloat16_and_every_gradient_in_fp32(kind, make, ids):
    policy = make(kind)
    with Products() as products:
        loss = policy.model(ids).float().logsumexp(-1).sum()
        loss.backward()
        with policy.narrowed():
            policy.model(ids)
    assert products.types == {torch.bfloat16}
    assert {p.dtype for p in policy.trainable().values()} == {torch.float32}
    assert {p.grad.dtype for p in policy.trainable().values()} == {torch.float32}


@kinds
def test_the_loss_and_the_sampler_see_the_same_bits(kind, make, ids):
    """So the ratio of a policy to itself is 1, as it is when all is in fp32."""
    policy = make(kind)
    with_gradient = policy.model(ids).detach()
    for block in (policy.narrowed, policy.merged):
        with block():
            assert torch.equal(policy.model(ids), with_gradient)
            assert {p.dtype for p in policy.trainable().values()} == {torch.bfloat16}
    assert torch.equal(policy.model(ids).detach(), with_gradient)


@kinds
def test_bfloat16_differs_from_fp32_products_by_its_rounding_alone(kind, make, ids, monkeypatch):
    from unmask.models import policy as module

    found, exact = make(kind), make(kind, "float32")
    monkeypatch.setattr(module, "multiply_in_the_bases_type", lambda model: None)
    wide = make(kind)  # as PEFT has it
    assert type(wide.model.model.layers[0].self_attn.q_proj.lora_A["default"]) is torch.nn.Linear
    ours, pefts = ((logits(p, ids).float() - logits(exact, ids)).square().mean().sqrt() for p in (found, wide))
    assert ours < 1.3 * pefts < 0.1


def test_gradients_are_as_close_to_those_of_fp32_as_with_fp32_products(make, ids, monkeypatch):
    """The rounding of the base model is what moves them."""
    from unmask.models import policy as module

    def gradient(policy):
        policy.model(ids).float().logsumexp(-1).sum().backward()
        return torch.cat([p.grad.flatten() for _, p in sorted(policy.trainable().items())])

    exact, found = gradient(make(dtype="float32")), gradient(make())
    monkeypatch.setattr(module, "multiply_in_the_bases_type", lambda model: None)
    wide = gradient(make())
    ours, pefts = (found - exact).norm() / exact.norm(), (wide - exact).norm() / exact.norm()
    assert ours < 1.3 * pefts
    assert pefts < 0.1


def test_nothing_that_the_optimiser_holds_is_touched(make, ids):
    policy = make()
    policy.model(ids).sum().backward()
    before = {name: (p, p.data, p.grad, p.data.clone(), p.grad.clone()) for name, p in policy.trainable().items()}
    with policy.narrowed(), policy.merged(), policy.reference():
        assert not torch.is_grad_enabled()
        policy.model(ids)
    for name, p in policy.trainable().items():
        parameter, data, grad, value, slope = before[name]
        assert p is parameter
        assert (p.data.data_ptr(), p.grad.data_ptr()) == (data.data_ptr(), grad.data_ptr())
        assert torch.equal(p, value)
        assert torch.equal(p.grad, slope)
    policy.model.zero_grad()
    policy.model(ids).sum().backward()
    assert all(torch.equal(p.grad, before[name][4]) for name, p in policy.trainable().items())


@pytest.mark.parametrize("order", ["reference inside", "reference outside"])
def test_the_reference_is_narrowed_too(order, make, ids):
    policy = make()
    policy.set_reference()
    wanted = logits(policy, ids)
    with torch.no_grad():
        for p in policy.trainable().values():
            p.add_(0.1)
    moved = logits(policy, ids)
    blocks = [policy.narrowed, policy.reference]
    first, second = blocks if order == "reference inside" else blocks[::-1]
    with first(), second():
        assert {p.dtype for p in policy.trainable().values()} == {torch.bfloat16}
        assert torch.equal(policy.model(ids), wanted)
    assert torch.equal(logits(policy, ids), moved)
    assert {p.dtype for p in (*policy.trainable().values(), *policy.snapshot.values())} == {torch.float32}
    with policy.narrowed(), pytest.raises(RuntimeError, match="would store rounded weights"):
        policy.set_reference()


def test_values_come_back_when_the_block_fails(make):
    policy = make()
    with pytest.raises(KeyError), policy.narrowed():
        raise KeyError
    assert {p.dtype for p in policy.trainable().values()} == {torch.float32}
    assert not policy.is_narrow


def test_in_fp32_nothing_is_narrowed_or_replaced(make, ids):
    policy = make(dtype="float32")
    assert type(policy.model.model.layers[0].self_attn.q_proj.lora_A["default"]) is torch.nn.Linear
    before = {name: p.data_ptr() for name, p in policy.trainable().items()}
    with policy.narrowed():
        assert {name: p.data_ptr() for name, p in policy.trainable().items()} == before
        assert torch.is_grad_enabled()


def test_without_gradients_no_step_of_training_casts_the_adapter(make, ids, monkeypatch):
    """A loaded adapter, which is frozen, is narrowed as well."""
    policy = make()
    policy.model.requires_grad_(False)
    with policy.merged():
        lora = [p for name, p in policy.model.named_parameters() if ".lora_" in name]
        assert {p.dtype for p in lora} == {torch.bfloat16}
