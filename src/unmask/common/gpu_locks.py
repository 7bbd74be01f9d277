"""GPUs of one machine without SLURM, each assigned to one job at a time.

Snakemake counts GPUs (`resources: gpu` of the profile) but does not say which ones a job gets. A job locks one file per
GPU and keeps it open, so that the kernel releases the GPU when the job ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
import time
from pathlib import Path

from unmask.common.errors import InputError

COUNT = "UNMASK_CARDS"  # set by the workflow where its profile limits the resource gpu
VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE = 5.0  # seconds between two attempts to lock


def lend_cards(count: object) -> None:
    """Let the jobs of this process lock their GPUs, `count` in all; do nothing unless `count` is a number."""
    # A profile that does not limit the resource gpu has None.
    if isinstance(count, int):
        os.environ[COUNT] = str(count)


def take_cards(wanted: int) -> list[str]:
    """Wait until `wanted` GPUs are free, lock them and make them the only visible ones; return their names.

    The locks survive an exec. Returns [] in a workflow that assigns no GPUs, and in a SLURM job, which has its GPUs
    already. Raises InputError if the machine has fewer.
    """
    if COUNT not in os.environ or "SLURM_JOB_ID" in os.environ or not wanted:
        return []
    mine = _cards(int(os.environ[COUNT]))
    # Refuse what can never be free: the job would wait for ever.
    if wanted > len(mine):
        raise InputError(
            f"{wanted} GPUs requested for a job, but this machine has {len(mine)}: lower the job's gpu in the profile"
        )

    waited = False
    while (taken := _try(mine, wanted)) is None:
        if not waited:
            print(f"waiting for {wanted} of the GPUs {', '.join(mine)}, held by other jobs", flush=True)
        waited = True
        # Jitter: two jobs that wait would otherwise lock and release the same GPUs in step for ever.
        time.sleep(PAUSE * random.uniform(0.5, 1.5))
    os.environ[VISIBLE] = ",".join(taken)
    return taken


def _cards(count: int) -> list[str]:
    """Return the names of the GPUs that the workflow may use: the first `count` of the visible ones."""
    if not os.environ.get(VISIBLE):
        return [str(number) for number in range(count)]
    shown = os.environ[VISIBLE].split(",")
    if len(shown) < count:
        raise InputError(f"the profile has gpu={count}, but {VISIBLE} lists {len(shown)}: lower gpu in the profile")
    return shown[:count]


def _try(cards: list[str], wanted: int) -> list[str] | None:
    """Lock `wanted` of the GPUs and return their names; None, with no lock held, if too few are free."""
    # The folder belongs to this user: jobs of other users do not see these locks.
    folder = Path(tempfile.gettempdir(), f"unmask-cards-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    held: dict[str, int] = {}
    for card in cards:
        # CUDA's older names of MIG devices contain slashes.
        file = os.open(folder / card.replace("/", "-"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        held[card] = file
        if len(held) == wanted:
            # Python closes its files at an exec, but launch.py becomes the step, which needs the locks.
            for kept in held.values():
                os.set_inheritable(kept, True)
            return list(held)

    # All or nothing: two jobs that each kept a part would wait for each other.
    for file in held.values():
        os.close(file)
    return None
