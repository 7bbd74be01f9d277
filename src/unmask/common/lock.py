"""Lock on a run's folder that keeps two processes from writing into it, also from machines that share its disk.

The file `lock` names its holder and has a heartbeat counter that a thread of the holder increments every few seconds. A
process that finds a lock waits: if the counter changes, the holder is alive and the process gives up; if it does not
change for a minute, the holder is dead and the process takes over. Clocks of different machines are never compared, and
the file system only has to make exclusive creation and renaming atomic.
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
from typing import TypedDict, cast

from unmask.common.atomic import is_running, writable
from unmask.common.errors import TransientError

BEAT = 5.0  # seconds between two heartbeats
DEAD = 60.0  # seconds without a heartbeat after which a holder counts as dead
NAME = "lock"


class Holder(TypedDict, total=False):
    """Process that holds a lock; a key may be missing from a file that was only half written."""

    token: str
    host: str
    pid: int
    job: str | None


class Lock:
    """Lock held by this process; call `check` before writing. Created by `locked`."""

    def __init__(self, path: Path, beat: float) -> None:
        # The token tells this lock from one of an earlier process with the same host and pid.
        self.path = path
        self.beat = beat
        self.beats = 0
        self.holder: Holder = {
            "token": secrets.token_hex(8),
            "host": here(),
            "pid": os.getpid(),
            "job": os.environ.get("SLURM_JOB_ID"),
        }
        self.released = threading.Event()
        self.thread = threading.Thread(target=self._show_life, daemon=True)

    def check(self) -> None:
        """Raise TransientError if the lock is no longer ours, because another process may be writing."""
        for patience in (0.5, 0.0):  # a process that renamed it by mistake puts it back at once
            if self._mine():
                return
            time.sleep(patience)
        raise TransientError(f"{self.path}: lost to another process, or removed; nothing more is written. Start again.")

    def create(self) -> None:
        """Create the lock file. Raises FileExistsError if it exists."""
        with open(self.path, "x", encoding="utf-8") as file:
            try:
                file.write(self._text())
                file.flush()
            except OSError:  # disk full: an empty lock would keep others waiting
                self.path.unlink()
                raise

    def release(self) -> None:
        """Stop the heartbeat and remove the lock file, unless another process has taken it over."""
        self.released.set()
        if self.thread.ident:
            self.thread.join()
        if self._mine():
            self.path.unlink(missing_ok=True)

    def _text(self) -> str:
        """Return the content of the file; its length is constant, so overwriting in place leaves no old bytes."""
        content = {**self.holder, "beats": f"{self.beats:012d}"}
        return json.dumps(content) + "\n"

    def _mine(self) -> bool:
        holder = describe(read(self.path) or "")
        return holder.get("token") == self.holder["token"]

    def _show_life(self) -> None:
        while not self.released.wait(self.beat):
            with contextlib.suppress(OSError):  # the file system may be stuck for a moment: try again next time
                if self._mine():
                    self.beats += 1
                    with open(self.path, "r+", encoding="utf-8") as file:
                        file.write(self._text())


@contextlib.contextmanager
def locked(folder: Path, beat: float = BEAT, dead: float = DEAD) -> Iterator[Lock]:
    """Hold the lock of `folder` within the block. Raises TransientError if a live process holds it."""
    lock = Lock(folder / NAME, beat)
    with writable(lock.path):
        folder.mkdir(parents=True, exist_ok=True)
        _take(lock, dead)
    # The heartbeat starts once the lock is ours; a thread, because an update can take longer than DEAD.
    lock.thread.start()
    try:
        yield lock
    finally:
        lock.release()


def _take(lock: Lock, dead: float) -> None:
    """Create the lock, after removing a stale one if there is one."""
    while True:
        try:
            lock.create()
        except FileExistsError:
            _bury(lock.path, _outlive(lock.path, dead))
        else:
            # Another process may have mistaken this new lock for the stale one and renamed it.
            lock.check()
            return


def _outlive(path: Path, dead: float) -> str | None:
    """Wait until the holder has missed its heartbeats or is gone; return the lock's last content.

    Raises TransientError if the holder is alive.
    """
    # Only a change of the content counts as a heartbeat, timed by the monotonic clock of this process.
    seen = read(path)
    began = time.monotonic()
    if seen is not None and not _died_here(seen):
        print(f"{path}: held by {holder_name(seen)}; waiting {dead:.0f} s for a heartbeat", flush=True)
    while seen is not None and time.monotonic() - began < dead and not _died_here(seen):
        time.sleep(min(0.5, dead / 20))
        now = read(path)
        if now and seen and now != seen:
            raise TransientError(
                f"{path}: {holder_name(now)} is already running this job. Wait for it or stop it, then retry."
            )
        seen = now
    return seen


def _bury(path: Path, seen: str | None) -> None:
    """Remove a stale lock by renaming it; put it back if it turns out to be a newer one."""
    # Of several processes that find the same stale lock, only one can rename it. Between reading and renaming, though,
    # another may have removed it and created its own; the content of the renamed file tells.
    grave = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    if seen is None or read(path) != seen:
        return
    with contextlib.suppress(FileNotFoundError):  # another process was faster
        os.rename(path, grave)
        if read(grave) != seen:
            with contextlib.suppress(FileExistsError):
                os.link(grave, path)
        else:
            print(f"{path}: stale lock of {holder_name(seen)}, which is dead; taken over", flush=True)
        grave.unlink()


def _died_here(text: str) -> bool:
    """Return True if the holder was a process on this machine that no longer runs."""
    holder = describe(text)
    pid = holder.get("pid")
    is_local = holder.get("host") == here()
    return is_local and isinstance(pid, int) and not is_running(pid)


def read(path: Path) -> str | None:
    """Return the content of a lock; None if there is none.

    Opening the file asks the server of a network file system, whereas its time stamps may come from a cache.
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def describe(text: str) -> Holder:
    """Parse the holder; empty if the file is damaged or was only half written."""
    try:
        holder = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(holder, dict):
        return {}
    return cast("Holder", holder)


def holder_name(text: str) -> str:
    """Return a readable name of the holder, for messages."""
    holder = describe(text)
    job = f"SLURM job {holder['job']}, " if holder.get("job") else ""
    machine, _, _ = str(holder.get("host")).partition(" ")
    return f"{job}process {holder.get('pid')} on {machine}"


def here() -> str:
    """Return the name of the machine, or of the container on it, within which pids are unique."""
    name = socket.gethostname()
    space = Path("/proc/self/ns/pid")
    if not space.exists():
        return name
    return f"{name} {os.readlink(space)}"
