"""Sharded model: parameters, gradients and optimizer state split over all ranks (FSDP2), for training all weights.

Passes with gradients run the sharded model. Each decoder block gathers its parameters when it is called and frees them
afterwards, so every rank must make the same number of such passes. Passes without gradients, whose number depends on
the data (rollouts, scoring, validation), run inside `unsharded`: every rank then holds the whole model and may make any
number of passes, because none contains a collective.

`fully_shard` is applied directly. accelerate 1.15 has a wrapper for it, which it leaves out on CPUs without a word, so
that it could not be tested; and which shards embedding and head as units that gather their weights when called, while
`target_log_probs` reads the head's weight without calling the head.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from datetime import timedelta

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from unmask.models.llada import LladaForMaskedDiffusion

# Ranks make the same passes together, so one that has waited this long would wait for ever: a method whose number of
# passes depends on the data must end the job and not hang.
PATIENCE = timedelta(hours=1)


def shard(model: LladaForMaskedDiffusion) -> None:
    """Shard the model over all ranks in place: a unit per decoder block, and one for embedding, last norm and head."""
    mesh = DeviceMesh.from_group(torch.distributed.new_group(timeout=PATIENCE), model.device.type)
    for layer in model.model.layers:
        # The hooks that gather a block's parameters run when the layer is called.
        layer.forward = functools.partial(model.apply_layer, layer)
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "hidden_states")
    model.is_sharded = True

    # Losses are normalised by the whole buffer, so gradients of ranks are added; FSDP's default is their mean.
    for unit in _units(model):
        unit.set_force_sum_reduction_for_comms(True)
        unit.set_gradient_divide_factor(1.0)


def is_sharded(tensor: Tensor | None) -> bool:
    """Return True if this rank holds only its shard of the tensor."""
    return isinstance(tensor, DTensor)


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor, a collective call; return any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return this rank's shard of a tensor that all ranks hold, if `other` is sharded; else the tensor as it is."""
    if not isinstance(other, DTensor):
        return tensor
    # Without a source rank nothing is sent: every rank cuts its shard out of its own copy.
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def unshard(model: LladaForMaskedDiffusion) -> None:
    """Gather all parameters on every rank, until `reshard`. A collective call."""
    for unit in _units(model):
        unit.unshard()


def reshard(model: LladaForMaskedDiffusion) -> None:
    """Free all parameters except this rank's shards."""
    for unit in _units(model):
        unit.reshard()


@contextlib.contextmanager
def unsharded(model: LladaForMaskedDiffusion) -> Iterator[None]:
    """Hold the whole model on every rank within the block, in which gradients are off. A collective call."""
    unshard(model)
    try:
        with torch.no_grad():
            yield
    finally:
        reshard(model)


@contextlib.contextmanager
def exchanged(
    model: LladaForMaskedDiffusion, trained: Callable[[], dict[str, Tensor]], values: dict[str, Tensor]
) -> Iterator[None]:
    """Swap the trained parameters with `values`, inside a block of `unsharded`. A collective call.

    `trained` returns the parameters, which are other tensors while the model is whole.
    """

    def swap_all() -> None:
        # The whole model is gathered from the shards, whose data cannot be pointed elsewhere.
        reshard(model)
        for name, parameter in trained().items():
            _swap(parameter, values[name])
        unshard(model)

    swap_all()
    try:
        yield
    finally:
        swap_all()


@torch.no_grad()
def whole_model(model: LladaForMaskedDiffusion) -> LladaForMaskedDiffusion:
    """Return the whole model on every rank, of its original class and without hooks. A collective call."""
    original = next(kind for kind in type(model).__mro__ if not issubclass(kind, FSDPModule))
    with torch.device("meta"):
        copy = original(model.config)
    copy.take({name: whole(p.detach()) for name, p in model.named_parameters()})
    copy.name_or_path = model.name_or_path
    return copy.eval()


def _units(model: LladaForMaskedDiffusion) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _swap(one: Tensor, other: Tensor) -> None:
    """Exchange the values of two tensors that are sharded alike, or both not sharded, in place."""
    mine, yours = ((x.to_local() if isinstance(x, DTensor) else x).detach() for x in (one, other))
    held = mine.clone()
    # Through `data`, which leaves the version counters alone: after a second swap nothing has changed.
    mine.data.copy_(yours)
    yours.data.copy_(held)
