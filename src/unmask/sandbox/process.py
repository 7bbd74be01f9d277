"""One sandboxed process, seen from the parent: start it, exchange messages within limits, end it.

Whatever comes out of the process is data from an adversary: its length is bounded before it is read, it is parsed as
JSON, and a message that was not asked for ends the conversation.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from typing import Any, Literal

from unmask.sandbox.backends import Backend
from unmask.sandbox.inside.frames import HEADER, pack
from unmask.sandbox.limits import STARTUP, Limits

Message = dict[str, Any]
SLACK = 4096  # bytes that a message may have in addition to the answer in it
PIECE = 1 << 16  # bytes of one read
PATIENCE = 2.0  # seconds in which a process ends on SIGTERM
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # exit codes of a process that was killed, and of its launcher
Reason = Literal["ended", "time", "sleep", "forged"]


class GoneError(Exception):
    """The process can no longer be talked to; `reason` says why.

    ended: it exited or crashed. time: it used up its CPU time. sleep: it used up its wall time, but not its CPU time.
    forged: it sent what was not asked for.
    """

    def __init__(self, reason: Reason, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason: Reason = reason


class Process:
    """A process of a backend in one of two roles: `candidate` runs a program, `checker` runs tests."""

    def __init__(self, backend: Backend, limits: Limits, role: Literal["candidate", "checker"]) -> None:
        """Start the process and wait until it is isolated. Raises OSError if it cannot be."""
        self._limits = limits
        self._buffer = b""
        self._child = subprocess.Popen(
            backend.command(limits, role),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env=backend.environment,
            start_new_session=True,
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._to, self._from = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._to, False)
        self.deadline = time.monotonic() + STARTUP
        try:
            ready = self.receive()
        except GoneError as error:
            self.close()
            raise OSError(f"{backend.name}: ended at its start ({error})") from error
        except BaseException:
            self.close()
            raise
        if ready.get("ready") is not True:
            self.close()
            raise OSError(f"{backend.name}: {ready.get('error', 'not ready')}")
        self.deadline = time.monotonic() + limits.wall_seconds

    def ask(self, message: Message) -> Message:
        """Send a message and return the answer. Raises GoneError; the process is then of no further use."""
        # Whatever is in the pipe already is no answer to a question that has not been asked.
        if self._buffer or self._readable(0.0):
            self._refuse_early()
        self._send(pack(message))
        return self.receive()

    def receive(self) -> Message:
        """Return the next message. Raises GoneError if none arrives in time, or one that is no JSON object."""
        header = self._take(HEADER)
        size = int.from_bytes(header, "big")
        if size > self._limits.answer_bytes + SLACK:
            raise GoneError("forged", f"a message of {size} bytes")
        try:
            message = json.loads(self._take(size))
        except (ValueError, RecursionError) as error:
            raise GoneError("forged", "a message that is no JSON") from error
        if not isinstance(message, dict):
            raise GoneError("forged", "a message that is no object")
        return message

    def close(self) -> None:
        """End the process and all that it started, and wait until they are gone; does nothing the second time."""
        if self._child.returncode is not None:
            return
        # A namespace ends a moment after its first process: its members are known now, and waited for at the end.
        family = []
        for pid in self._family():
            with contextlib.suppress(OSError):
                family.append(os.pidfd_open(pid))

        # The launcher ends its namespace on SIGTERM and waits for it. A process that ignores SIGTERM is killed.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, signal.SIGTERM)
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill_group()
            self._child.wait()
        self._kill_group()
        self._close_pipes()
        for descriptor in family:
            select.select([descriptor], [], [], PATIENCE)
            os.close(descriptor)

    def _close_pipes(self) -> None:
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            _, ready, _ = select.select([], [self._to], [], self._seconds_left())
            if not ready:
                raise self._late()
            try:
                left = left[os.write(self._to, left) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise self._end() from error

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._readable(self._seconds_left()):
                raise self._late()
            part = os.read(self._from, PIECE)
            if not part:
                raise self._end()
            self._buffer += part
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _readable(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._from], [], [], seconds)
        return bool(ready)

    def _seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def _refuse_early(self) -> None:
        """Raise GoneError: the process has ended, or it wrote without having been asked."""
        if not self._buffer and not os.read(self._from, 1):
            raise self._end()
        raise GoneError("forged", "an answer before the question")

    def _late(self) -> GoneError:
        """Tell a program that computes from one that sleeps: the first is running, or waits for a core."""
        states = ""
        for _ in range(5):
            states += "".join(self._states())
            time.sleep(0.002)
        return GoneError("time" if "R" in states else "sleep", f"no answer within {self._limits.wall_seconds} s")

    def _end(self) -> GoneError:
        """Say how a process ended: killed at its CPU limit, or otherwise."""
        # Without a pipe left it cannot answer any more, so it gets a moment to exit by itself, which tells its time.
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            pid, status, usage = os.wait4(self._child.pid, os.WNOHANG)
            if pid:
                self._child.returncode = os.waitstatus_to_exitcode(status)
                self._close_pipes()
                # The kernel counts the time of its limit in ticks, which may differ from what it reports.
                used = (usage.ru_utime + usage.ru_stime) / self._limits.cpu_seconds
                killed = self._child.returncode in KILLED
                return GoneError("time" if used > (0.5 if killed else 0.9) else "ended")
            time.sleep(0.005)
        return GoneError("ended")

    def _states(self) -> list[str]:
        """Return the states of the process and its descendants as the kernel has them, R for running."""
        found = []
        for pid in self._family():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                found.append(file.read().rpartition(") ")[2][:1])
        return found

    def _family(self) -> list[int]:
        """Return the ids of the process and its descendants."""
        family, left = [], [self._child.pid]
        while left:
            pid = left.pop()
            family.append(pid)
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                left += [int(word) for word in file.read().split()]
        return family
