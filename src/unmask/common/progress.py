"""Progress line with an ETA: updated in place on a terminal, printed at intervals in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


class Progress:
    """Progress of work from `start` to `total`; `show` prints a line if the last one is old enough.

    The interval is half a second on a terminal. In a log it is a tenth of the elapsed time, between 10 s and a minute,
    so that the log of a day stays readable. `part` marks a part of longer work, such as the rollouts of one buffer,
    whose end does not force a line. With an empty name nothing is printed.
    """

    def __init__(self, name: str, total: int, start: int = 0, unit: str = "", part: bool = False) -> None:
        self.name, self.total, self.start, self.unit, self.part = name, total, start, unit, part
        self.began = self.shown = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def show(self, done: int, **values: float) -> None:
        """Print the work done, the given values and the ETA; NaN values are left out."""
        now = time.monotonic()
        last = done >= self.total and not self.part
        if not self.name or (now - self.shown < self._pause(now) and not last):
            return
        self.shown = now
        # The rate counts only what this process did: work before a resume took none of its time.
        left = (now - self.began) / max(1, done - self.start) * (self.total - done)
        counted = f"{done}/{self.total} {self.unit}".rstrip()
        text = "  ".join([f"{self.name}  {counted}", *(f"{k} {v:.3g}" for k, v in values.items() if v == v)])
        text += f"  {now - self.began:.0f} s" if last else f"  ETA {left:.0f} s"
        print(f"\r\x1b[2K{text}" if self.terminal else text, end="" if self.terminal and not last else "\n", flush=True)

    def after(self, done: int) -> Callable[[int], None]:
        """Return a callback for a piece of work that counts from 0, offset by the `done` before it."""
        return lambda more: self.show(done + more)

    def _pause(self, now: float) -> float:
        return 0.5 if self.terminal else min(60.0, max(10.0, (now - self.began) / 10))
