"""Stop a training when it is asked to, so that it can go on later: SIGTERM or SIGUSR1, then a checkpoint, then exit 75.

SLURM sends SIGTERM before it ends a job: at the time limit, on `scancel`, when a job of more weight needs the node, and
earlier if the job asked for it (`--signal=TERM@300`: five minutes before the limit). The handler only takes note; the
trainer asks after each update.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(SystemExit):
    """Ends the process with the code that says "try again": the work done is saved, the work is not."""

    def __init__(self) -> None:
        super().__init__(os.EX_TEMPFAIL)


def watch() -> Callable[[], bool]:
    """Take note of the signals from now on. Returns a function that says whether one has come."""
    seen: list[int] = []
    for number in SIGNALS:
        signal.signal(number, lambda number, _frame: seen.append(number))
    return lambda: bool(seen)
