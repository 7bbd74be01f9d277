"""The processes that train one policy together, started by torchrun; without torchrun there is one, which asks nobody.

Every process holds the whole buffer of rollouts, which is small, and works on its share of the rows: it samples them,
scores them and takes their gradient. What it made is gathered, or summed. All then take the same optimiser step.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from unmask.files import InputError, TransientError

# How long one may wait for another: the parts of an evaluation take hours, and one process may have none left to do.
# If the other dies, the wait ends at once.
PATIENCE = timedelta(days=1)


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Within the block, this process can talk to the others. Only the first one prints; errors are printed by all."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    own = device()
    if own.type == "cuda":
        torch.cuda.set_device(own)
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    _ask(distributed.init_process_group, backend, timeout=PATIENCE)
    _check_device(own)
    with (
        open(os.devnull, "w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing if rank() else sys.stdout),
    ):
        yield
    distributed.destroy_process_group()


def device() -> torch.device:
    """The device of this process: its own GPU if there are any, else the CPU.

    Always with an index: plain "cuda" is the current device to torch, but GPU 0 to safetensors.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank() >= torch.cuda.device_count():
        raise InputError(
            f"process {local_rank()} of this node has no GPU of its own: {torch.cuda.device_count()} visible. Start as "
            "many processes per node (torchrun --nproc-per-node) as it has GPUs"
        )
    return torch.device("cuda", local_rank())


def _check_device(own: torch.device) -> None:
    """Sum a one over all processes on their devices, so that a wrong device or network shows before models are read."""
    one = torch.ones((), device=own)
    try:
        distributed.all_reduce(one)
        found = one.item()
    except RuntimeError as error:
        raise TransientError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot sum with the others on {own}: each "
            "needs a GPU of its own and NCCL a network between them; NCCL_DEBUG=INFO says more, and the others may "
            f"say why in their own output. ({error})"
        ) from error
    if found != world():
        raise TransientError(f"{world()} processes sum their ones to {found:g} on {own}: the network or NCCL is faulty")


def local_rank() -> int:
    """The number of this process on its node, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0. The first one writes all files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def share(rows: int) -> slice:
    """What this process does of so many rows, which the number of processes divides."""
    size = rows // world()
    return slice(rank() * size, (rank() + 1) * size)


def gather(values: Tensor) -> Tensor:
    """The shares [n, …] of all processes, in their order [n · world, …]."""
    if world() == 1:
        return values
    shares = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(world())]
    _ask(distributed.all_gather, shares, values.contiguous())
    return torch.cat(shares)


def add(values: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes."""
    if world() > 1:
        for value in values:
            _ask(distributed.all_reduce, value)


def total(value: float) -> float:
    """The sum of a number over all processes."""
    summed = torch.tensor(value, dtype=torch.float64, device="cpu")
    add([summed])
    return summed.item()


def any_of(*flags: bool) -> list[bool]:
    """For each flag whether it is set in any process; the same answer in all of them, from one transfer."""
    summed = torch.tensor(flags, dtype=torch.float64, device="cpu")
    add([summed])
    return (summed > 0).tolist()


def wait() -> None:
    """Return when all processes have come here."""
    any_of(False)


@contextlib.contextmanager
def in_turn() -> Iterator[None]:
    """The first process goes through the block before all others: what it removes or writes there, they do not find."""
    if rank() > 0:
        wait()
    yield
    if rank() == 0:
        wait()


def values(value: int) -> list[int]:
    """The number that each process has, by rank."""
    return gather(torch.tensor([value], device="cpu")).tolist()


def same(value: int) -> bool:
    """Whether all processes have the same number."""
    return len(set(values(value))) == 1


def _ask(operation: Callable[..., Any], *args: Any, **options: Any) -> None:
    try:
        operation(*args, **options)
    except RuntimeError as error:
        raise TransientError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} lost the others: one has ended, and says why "
            f"in its own output. What was written is whole: start again to go on from it. ({error})"
        ) from error
