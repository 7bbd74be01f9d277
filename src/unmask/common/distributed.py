"""Process layer of data-parallel training: thin wrappers around accelerate; no-ops when the world size is 1.

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
from accelerate import PartialState, utils  # transformers imports accelerate anyway, so that this costs no time
from torch import Tensor

from unmask.common.errors import InputError, TransientError
from unmask.common.world_size import started_processes

# Timeout of a collective. A rank without shards left may wait hours for the others at the end of an evaluation. If a
# rank dies, the wait ends at once, so a long timeout costs nothing.
PATIENCE = timedelta(days=1)

_state: PartialState | None = None  # accelerate's view of the processes, inside `joined`; None for a single process


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the process group within the block. Only rank 0 writes to stdout; every rank writes errors to stderr.

    Raises InputError if another number of processes was requested than has started, TransientError if the ranks cannot
    reach one another or one of them ends within the block.
    """
    if started_processes() == 1:
        yield
        return

    own = device()
    _set_up(own)
    _check_device(own)
    with (
        open(os.devnull, "w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing if rank() else sys.stdout),
    ):
        try:
            yield
        except RuntimeError as error:
            # FSDP's collectives, inside of forward and backward passes, do not go through `_ask`.
            if not _is_from_a_collective(error):
                raise
            raise _lost(error) from error
    _tear_down()


def _set_up(own: torch.device) -> None:
    """Create the process group through accelerate."""
    global _state
    # NCCL needs the current device set before the group exists; gloo carries CPU tensors such as flags and counts.
    if own.type == "cuda":
        torch.cuda.set_device(own)
    backend = "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo"
    try:
        _state = _ask(PartialState, cpu=own.type == "cpu", backend=backend, timeout=PATIENCE)
    except NotImplementedError as error:  # on GPUs whose drivers lack what NCCL would use
        raise InputError(f"accelerate: {error}") from error


def _tear_down() -> None:
    global _state
    PartialState().destroy_process_group()
    PartialState._reset_state()
    _state = None


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
        found = utils.reduce(one, "sum").item()  # NCCL is asynchronous: reading the value is what waits and fails
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
    return _state.num_processes if _state else 1


def rank() -> int:
    """Return the rank of this process. Rank 0 writes all files."""
    return _state.process_index if _state else 0


def local_slice(rows: int) -> slice:
    """Return this rank's slice of `rows` rows; the world size must divide `rows`."""
    size = rows // world()
    return slice(rank() * size, (rank() + 1) * size)


def gather(values: Tensor) -> Tensor:
    """Concatenate the shares [n, …] of all ranks, in rank order, to [n · world, …]; on this process's device."""
    if world() == 1:
        return values
    return _ask(utils.gather, values)


def add(values: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all ranks, in place."""
    if world() == 1:
        return
    for value in values:
        value.copy_(_ask(utils.reduce, value, "sum"))


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
    # Not accelerate's `wait_for_everyone`, nor its `main_process_first`: on GPUs these wait in NCCL, which does not
    # notice the death of another rank. gloo, which carries these flags, does.
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
    # A sum in which every rank has its own place: accelerate's `gather` takes only tensors on the GPU if there is one.
    numbers = torch.zeros(world(), dtype=torch.int64, device="cpu")
    numbers[rank()] = value
    add([numbers])
    return numbers.tolist()


def same(value: int) -> bool:
    """Return True if all ranks passed the same number."""
    return len(set(values(value))) == 1


def _ask(operation: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run a collective; raise TransientError if it fails."""
    try:
        return operation(*args, **options)
    except NotImplementedError:
        raise
    except RuntimeError as error:
        raise _lost(error) from error


def _lost(error: RuntimeError) -> TransientError:
    # A collective that fails usually means that another rank died: the cause is in that rank's output, not here.
    return TransientError(
        f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} lost the others: one has exited, see its "
        f"output for the cause. Files already written are intact: start again to resume from them. ({error})"
    )


def _is_from_a_collective(error: RuntimeError) -> bool:
    """Return True for an error of the communication between processes, which torch marks by type or by message."""
    named = any(name in str(error) for name in ("gloo", "NCCL"))
    return named or isinstance(error, torch.distributed.DistError)
