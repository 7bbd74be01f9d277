"""A lock on a run's folder, so that two processes never write into it, on one machine or on many that share its disk.

The file `lock` names its holder and carries a counter that a thread of the holder moves every few seconds. Who finds a
lock waits: if the counter moves, the holder lives, and it gives up; if the counter stands still for a minute, the
holder is dead, and it takes over. Clocks of different machines are never compared, and nothing is asked of the file
system but that creating a file exclusively and renaming one are atomic.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unmask.files import TransientError, is_running, writable

BEAT = 5.0  # seconds between two signs of life
DEAD = 60.0  # seconds without one after which a holder counts as dead
NAME = "lock"


class Lock:
    """A lock that this process holds; `check` before writing. Made by `held`."""

    def __init__(self, path: Path, beat: float) -> None:
        self.path, self.beat, self.beats = path, beat, 0
        self.holder = {"token": secrets.token_hex(8), "host": here(), "pid": os.getpid()}
        self.holder["job"] = os.environ.get("SLURM_JOB_ID")
        self.released = threading.Event()
        self.thread = threading.Thread(target=self._show_life, daemon=True)

    def check(self) -> None:
        """Raise InputError if the lock is no longer ours: another process may be writing."""
        for patience in (0.5, 0.0):  # who renamed our lock by mistake puts it back at once
            if self._mine():
                return
            time.sleep(patience)
        raise TransientError(f"{self.path}: lost to another process, or removed; nothing more is written. Start again.")

    def create(self) -> None:
        """Make the file; FileExistsError if there is one."""
        with open(self.path, "x", encoding="utf-8") as file:
            try:
                file.write(self._text())
                file.flush()
            except OSError:  # a full disk: an empty lock would keep others waiting
                self.path.unlink()
                raise

    def release(self) -> None:
        """Remove the file, unless it has become another's."""
        self.released.set()
        if self.thread.ident:
            self.thread.join()
        if self._mine():
            self.path.unlink(missing_ok=True)

    def _text(self) -> str:
        """What the file says: always of the same length, so that overwriting leaves nothing of the old."""
        return json.dumps({**self.holder, "beats": f"{self.beats:012d}"}) + "\n"

    def _mine(self) -> bool:
        return describe(read(self.path) or "").get("token") == self.holder["token"]

    def _show_life(self) -> None:
        while not self.released.wait(self.beat):
            with contextlib.suppress(OSError):  # a file system that hangs for a moment: the next beat may get through
                if self._mine():
                    self.beats += 1
                    with open(self.path, "r+", encoding="utf-8") as file:
                        file.write(self._text())


@contextlib.contextmanager
def held(folder: Path, beat: float = BEAT, dead: float = DEAD) -> Iterator[Lock]:
    """Hold the lock of `folder` during the block. If a living process has it: InputError, and nothing is touched."""
    lock = Lock(folder / NAME, beat)
    with writable(lock.path):
        folder.mkdir(parents=True, exist_ok=True)
        _take(lock, dead)
    lock.thread.start()
    try:
        yield lock
    finally:
        lock.release()


def _take(lock: Lock, dead: float) -> None:
    """Create the lock, after burying a dead one if there is one."""
    while True:
        try:
            lock.create()
        except FileExistsError:
            _bury(lock.path, _outlive(lock.path, dead))
        else:
            lock.check()
            return


def _outlive(path: Path, dead: float) -> str | None:
    """Wait until the holder has missed its beats or is gone; returns what the lock said. InputError if it lives."""
    seen, began = read(path), time.monotonic()
    if seen is not None and not _died_here(seen):
        print(f"{path}: held by {holder_name(seen)}; waiting {dead:.0f} s for a sign of life", flush=True)
    while seen is not None and time.monotonic() - began < dead and not _died_here(seen):
        time.sleep(min(0.5, dead / 20))
        now = read(path)
        if now and seen and now != seen:
            raise TransientError(
                f"{path}: {holder_name(now)} is at this work. Let it finish or end it, then start again."
            )
        seen = now
    return seen


def _bury(path: Path, seen: str | None) -> None:
    """Take a dead lock away: rename it, and put it back if that was a newer one after all."""
    grave = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    if seen is None or read(path) != seen:
        return
    with contextlib.suppress(FileNotFoundError):  # another was faster
        os.rename(path, grave)
        if read(grave) != seen:
            with contextlib.suppress(FileExistsError):
                os.link(grave, path)
        else:
            print(f"{path}: left by {holder_name(seen)}, which is dead; taken over", flush=True)
        grave.unlink()


def _died_here(text: str) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    holder = describe(text)
    pid = holder.get("pid")
    return holder.get("host") == here() and isinstance(pid, int) and not is_running(pid)


def read(path: Path) -> str | None:
    """What a lock says; None if there is none. Opening it, other than looking at its times, asks the file server."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def describe(text: str) -> dict[str, Any]:
    """The holder's token, host, pid and job; empty where the file was read while it was being made, or is damaged."""
    try:
        holder = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def holder_name(text: str) -> str:
    """Who holds a lock, in words."""
    holder = describe(text)
    job = f"SLURM job {holder['job']}, " if holder.get("job") else ""
    return f"{job}process {holder.get('pid')} on {str(holder.get('host')).partition(' ')[0]}"


def here() -> str:
    """Name of the machine, or of the container on it, in which process numbers mean something."""
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {os.readlink(space) if space.exists() else ''}".strip()
