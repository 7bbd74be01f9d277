"""User-fixable errors, and how a step reports that it refuses an input."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path


class InputError(ValueError):
    """User-fixable error; the message names the file, key or row and how to fix it."""


class TransientError(InputError):
    """Error that a retry may get past without a change of the input, such as another process or a full disk."""


# Last line in the log of a workflow job that refused its input; the workflow looks for it before it retries.
REFUSED = "Not tried again: it would end the same way until the input is changed."


def run_step(main: Callable[[], None]) -> None:
    """Run a step's main; an InputError exits with its message only, anything else is a bug and keeps its traceback.

    If the reader of the output has left, as in `step | head`, the step exits with 1 and no message.
    """
    # What was imported stays: freezing keeps the collector from looking through it again and again.
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes stdout once more at exit and would report the broken pipe there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except InputError as error:
        final = "UNMASK_WORKFLOW" in os.environ and not isinstance(error, TransientError)
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}" + final * f"\n{REFUSED}")


def refused(log: Path) -> bool:
    """Return True if the step that wrote this log refused its input; False if the log cannot be read (yet)."""
    try:
        return REFUSED in log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
