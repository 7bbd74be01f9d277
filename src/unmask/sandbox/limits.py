"""Limits of one sandboxed program."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a program may use, from its start to its last test; the kernel enforces all but the wall time."""

    cpu_seconds: int = 5
    wall_seconds: float = 20.0  # enforced by the parent; generous, so that verdicts do not depend on a machine's load
    memory: int = 512 << 20  # bytes of address space
    file_size: int = 0  # bytes of any file that it writes
    processes: int = 1  # the program itself: no other process, and no thread
    answer_bytes: int = 1 << 16  # of an answer as JSON


STARTUP = 30.0  # seconds within which a sandbox must be ready, before it sees a program
