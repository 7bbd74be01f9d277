"""Graceful preemption: on SIGTERM or SIGUSR1 the run writes a checkpoint and exits with code 75, to be resumed later.

SLURM sends SIGTERM before it kills a job: at the time limit, on `scancel`, when a job of higher priority needs the
node, and earlier if the job requests it (`--signal=TERM@300`: five minutes before the limit). The handler only sets a
flag; the trainer polls it after each update.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(SystemExit):
    """Exit with EX_TEMPFAIL ("try again"): progress is saved, but the run is not finished."""

    def __init__(self) -> None:
        super().__init__(os.EX_TEMPFAIL)


def watch() -> Callable[[], bool]:
    """Install the signal handlers; return a function that is True once a signal has arrived."""
    seen: list[int] = []
    # The default action would kill the process; recording the signal lets the current update finish first.
    for number in SIGNALS:
        signal.signal(number, lambda number, _frame: seen.append(number))
    return lambda: bool(seen)
