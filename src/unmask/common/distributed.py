"""Thin wrappers around torch.distributed for data-parallel training; no-ops when the world size is 1.

Every rank holds the whole buffer of rollouts, which is small, and works on its share of the rows: it samples them,
scores them and computes their gradient. Results are gathered or summed, then all ranks take the same optimiser step.
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

from unmask.common.errors import InputError, TransientError

# Timeout of a collective. A rank without shards left may wait hours for the others at the end of an evaluation. If a
# rank dies, the wait ends at once, so a long timeout costs nothing.
PATIENCE = timedelta(days=1)


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the process group within the block. Only rank 0 writes to stdout; every rank writes errors to stderr."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return

    # NCCL needs the current device set before the group exists; gloo carries CPU tensors such as flags and counts.
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
    """Return the device of this process: its own GPU if there are any, else the CPU.

    A GPU always has an index: plain "cuda" means the current device to torch, but GPU 0 to safetensors. Raises
    InputError if there are more processes on this node than GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank() >= torch.cuda.device_count():
        raise InputError(
            f"process {local_rank()} of this node has no GPU left: {torch.cuda.device_count()} visible. Start at most "
            "one process per GPU (torchrun --nproc-per-node)"
        )
    return torch.device("cuda", local_rank())


def _check_device(own: torch.device) -> None:
    """All-reduce a one over all ranks, so that a faulty device or network shows up before models are loaded."""
    one = torch.ones((), device=own)
    try:
        distributed.all_reduce(one)
        found = one.item()  # NCCL is asynchronous: reading the value is what waits and fails
    except RuntimeError as error:
        raise TransientError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot all-reduce on {own}: each process "
            "needs its own GPU and NCCL a network between them; NCCL_DEBUG=INFO says more, and the output of the "
            f"other processes may say why. ({error})"
        ) from error
    if found != world():
        raise TransientError(
            f"{world()} processes all-reduce a one to {found:g} on {own}: the network or NCCL is faulty"
        )


def local_rank() -> int:
    """Return the rank of this process on its node."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def world() -> int:
    """Return the world size."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process. Rank 0 writes all files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def local_slice(rows: int) -> slice:
    """Return this rank's slice of `rows` rows; the world size must divide `rows`."""
    size = rows // world()
    return slice(rank() * size, (rank() + 1) * size)


def gather(values: Tensor) -> Tensor:
    """Concatenate the shares [n, …] of all ranks, in rank order, to [n · world, …]."""
    if world() == 1:
        return values
    shares = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(world())]
    _ask(distributed.all_gather, shares, values.contiguous())
    return torch.cat(shares)


def add(values: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all ranks, in place."""
    if world() > 1:
        for value in values:
            _ask(distributed.all_reduce, value)


def total(value: float) -> float:
    """Return the sum of a number over all ranks."""
    summed = torch.tensor(value, dtype=torch.float64, device="cpu")
    add([summed])
    return summed.item()


def any_rank(*flags: bool) -> list[bool]:
    """Return, for each flag, True if it is set on any rank; all ranks get the same answer from one collective."""
    summed = torch.tensor(flags, dtype=torch.float64, device="cpu")
    add([summed])
    return (summed > 0).tolist()


def barrier() -> None:
    """Wait until all ranks have reached this point."""
    any_rank(False)


@contextlib.contextmanager
def rank0_first() -> Iterator[None]:
    """Run the block on rank 0 before all other ranks, so that they see what it wrote or removed there."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


def values(value: int) -> list[int]:
    """Return the number that each rank passed, in rank order."""
    return gather(torch.tensor([value], device="cpu")).tolist()


def same(value: int) -> bool:
    """Return True if all ranks passed the same number."""
    return len(set(values(value))) == 1


def _ask(operation: Callable[..., Any], *args: Any, **options: Any) -> None:
    # A collective that fails usually means that another rank died: the cause is in that rank's output, not here.
    try:
        operation(*args, **options)
    except RuntimeError as error:
        raise TransientError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} lost the others: one has exited, see its "
            f"output for the cause. Files already written are intact: start again to resume from them. ({error})"
        ) from error
