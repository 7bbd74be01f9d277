"""A progress line with the time left, in place on a terminal and now and then in a log."""

from __future__ import annotations

import sys
import time


class Progress:
    """Counts work from `start` to `total`; `show` prints at most every half second (a terminal) or 10 s (a log)."""

    def __init__(self, name: str, total: int, start: int = 0) -> None:
        self.name, self.total, self.start = name, total, start
        self.began = self.shown = time.monotonic()
        self.terminal = sys.stdout.isatty()

    def show(self, done: int, **values: float) -> None:
        """Print how much is done, the values and the time left."""
        now = time.monotonic()
        last = done >= self.total
        if now - self.shown < (0.5 if self.terminal else 10) and not last:
            return
        self.shown = now
        left = (now - self.began) / max(1, done - self.start) * (self.total - done)
        text = "  ".join([f"{self.name}  {done}/{self.total}", *(f"{k} {v:.3g}" for k, v in values.items())])
        text += f"  {now - self.began:.0f} s" if last else f"  ETA {left:.0f} s"
        print(f"\r\x1b[2K{text}" if self.terminal else text, end="" if self.terminal and not last else "\n", flush=True)
