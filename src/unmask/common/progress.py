"""Progress line with an ETA: updated in place on a terminal, printed at intervals in a log."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable


class Progress:
    """Progress of work from `start` to `total`; `show` prints a line if the last one is old enough.

    The interval is half a second on a terminal. In a log it is a tenth of the elapsed time, between 10 s and a minute,
    so that the log of a day stays readable. `part` marks a part of longer work, such as the rollouts of one buffer,
    whose end does not force a line. With an empty name nothing is printed.
    """

    def __init__(
        self,
        name: str,
        total: int,
        start: int = 0,
        unit: str = "",
        part: bool = False,
    ) -> None:
        self.name = name
        self.total = total
        self.start = start
        self.unit = unit
        self.part = part
        self.began = self.shown = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def show(self, done: int, **values: float) -> None:
        """Print the work done, the given values and the ETA; NaN values are left out."""
        now = time.monotonic()
        last = done >= self.total and not self.part
        is_due = now - self.shown >= self._pause(now)
        if not self.name or not (is_due or last):
            return
        self.shown = now
        text = self._text(done, now - self.began, last, values)

        # On a terminal, each line replaces the one before it; the last one stays.
        if self.terminal:
            end = "\n" if last else ""
            print(f"\r\x1b[2K{text}", end=end, flush=True)
        else:
            print(text, flush=True)

    def after(self, done: int) -> Callable[[int], None]:
        """Return a callback for a piece of work that counts from 0, offset by the `done` before it."""
        return lambda more: self.show(done + more)

    def _text(self, done: int, elapsed: float, last: bool, values: dict[str, float]) -> str:
        counted = f"{done}/{self.total} {self.unit}".rstrip()
        parts = [self.name, counted]
        for key, value in values.items():
            if not math.isnan(value):
                parts.append(f"{key} {value:.3g}")

        if last:
            parts.append(f"{elapsed:.0f} s")
        else:
            # The rate counts only what this process did: work before a resume took none of its time.
            seconds_each = elapsed / max(1, done - self.start)
            left = seconds_each * (self.total - done)
            parts.append(f"ETA {left:.0f} s")
        return "  ".join(parts)

    def _pause(self, now: float) -> float:
        if self.terminal:
            return 0.5
        tenth = (now - self.began) / 10
        return min(60.0, max(10.0, tenth))
