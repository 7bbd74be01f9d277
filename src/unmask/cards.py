"""GPUs of one machine without SLURM, each lent to one job at a time.

Snakemake counts GPUs (`resources: gpu` of the profile) but does not say which ones a job has. A job takes locked files,
one per GPU, and keeps them open: the kernel lets them go when the job ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
import time
from pathlib import Path

from unmask.files import InputError

COUNT = "UNMASK_CARDS"  # set by the workflow where its profile limits the resource gpu
VISIBLE = "CUDA_VISIBLE_DEVICES"
PAUSE = 5.0  # seconds between two looks


def lend_cards(count: object) -> None:
    """Tell this process's jobs that so many GPUs are lent one by one; anything but a number says that they are not."""
    if isinstance(count, int):
        os.environ[COUNT] = str(count)


def take_cards(wanted: int) -> list[str]:
    """Wait for so many GPUs and make them this process's only ones; they stay its own after an exec.

    Does nothing outside such a workflow, and in a SLURM job, which has been given its GPUs.
    """
    if COUNT not in os.environ or "SLURM_JOB_ID" in os.environ or not wanted:
        return []
    mine = _cards(int(os.environ[COUNT]))
    if wanted > len(mine):
        raise InputError(
            f"{wanted} GPUs for a job, but this machine has {len(mine)}: lower the job's gpu in the profile"
        )
    waited = False
    while (taken := _try(mine, wanted)) is None:
        if not waited:
            print(f"waiting for {wanted} of the GPUs {', '.join(mine)}, which others hold", flush=True)
        waited = True
        time.sleep(PAUSE * random.uniform(0.5, 1.5))  # two that wait do not collide for ever
    os.environ[VISIBLE] = ",".join(taken)
    return taken


def _cards(count: int) -> list[str]:
    """Names of the GPUs that the workflow may use: those that it was shown, or the first `count`."""
    if not os.environ.get(VISIBLE):
        return [str(number) for number in range(count)]
    shown = os.environ[VISIBLE].split(",")
    if len(shown) < count:
        raise InputError(f"the profile's resources say gpu={count}, but {VISIBLE} shows {len(shown)}; lower the former")
    return shown[:count]


def _try(cards: list[str], wanted: int) -> list[str] | None:
    """Lock so many of them, or none."""
    folder = Path(tempfile.gettempdir(), f"unmask-cards-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    held: dict[str, int] = {}
    for card in cards:
        file = os.open(folder / card.replace("/", "-"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            continue
        held[card] = file
        if len(held) == wanted:
            for kept in held.values():
                os.set_inheritable(kept, True)
            return list(held)
    for file in held.values():
        os.close(file)
    return None
