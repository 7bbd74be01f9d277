"""World size of a step: what the launcher asks for, and the check that so many processes have started. Torch-free."""

from __future__ import annotations

import os

from unmask.common.errors import InputError

REQUESTED = "UNMASK_PROCESSES"


def request_processes(count: int) -> None:
    """Tell the processes that this one is about to start how many they should be."""
    os.environ[REQUESTED] = str(count)


def started_processes() -> int:
    """Return how many processes the launcher has started. Raises InputError if it was asked for another number."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    requested = int(os.environ.get(REQUESTED, started))
    if started != requested:
        # `accelerate launch --cpu --num_processes 2` starts one, which would silently do the work of two.
        raise InputError(
            f"{requested} processes were requested and {started} started; use src/launch.py or torchrun "
            f"--nproc-per-node {requested}, and no other launcher"
        )
    return started
