"""Names of what a program tries that no solution needs, from Python's audit events.

This counts attempts; it stops nothing, and code in C could get past it. What stops them is in isolation.py. This file
runs inside the sandbox and imports nothing of the project.
"""

from __future__ import annotations

import _thread
import os
import sys
import time
from typing import Any

EVENTS = {
    "os.fork": "process", "os.forkpty": "process", "os.posix_spawn": "process", "os.exec": "process",
    "os.system": "process", "subprocess.Popen": "process", "pty.spawn": "process",
    "os.kill": "signal", "os.killpg": "signal", "signal.pthread_kill": "signal",
    "sys.settrace": "introspection", "sys.setprofile": "introspection",
    "sys.addaudithook": "introspection", "sys._current_frames": "introspection", "gc.get_objects": "introspection",
    "gc.get_referrers": "introspection", "gc.get_referents": "introspection",
    "os.remove": "files", "os.rename": "files", "os.mkdir": "files", "os.rmdir": "files", "os.chmod": "files",
    "os.chown": "files", "os.link": "files", "os.symlink": "files", "os.truncate": "files", "os.utime": "files",
}  # fmt: skip
PREFIXES = {"socket.": "network", "ctypes.": "native", "shutil.": "files", "mmap.": "memory", "fcntl.": "files"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LISTS = ("os.listdir", "os.scandir")


class Watch:
    """Attempts since the last look, by name."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.library = tuple(path for path in sys.path if os.path.isabs(path))

    def start(self) -> None:
        """Watch from now on; Python has no way to stop it."""
        time.sleep = self._sleep  # type: ignore[assignment]
        _thread.start_new_thread = self._thread  # type: ignore[assignment]
        if "threading" in sys.modules:
            sys.modules["threading"]._start_new_thread = self._thread  # type: ignore[attr-defined]
        sys.addaudithook(self._heard)

    def _thread(self, *_: Any) -> None:
        """Refuse a thread, which the limit on processes would do with less to say."""
        self.found.add("thread")
        raise RuntimeError("programs may not start threads")

    def _sleep(self, seconds: float) -> None:
        """Refuse to sleep: no solution needs to, and Python 3.11 has no event for it."""
        self.found.add("sleep")
        raise PermissionError("programs may not sleep")

    def take(self) -> list[str]:
        """Return the attempts since the last call."""
        found = sorted(self.found)
        self.found = set()
        return found

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS:
            self.found.add(EVENTS[event])
        elif event == "open" or event in LISTS:
            self._look(event, arguments)
        else:
            for prefix, name in PREFIXES.items():
                if event.startswith(prefix):
                    self.found.add(name)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note the use of a file or folder, unless it is a look at the standard library, as an import takes."""
        flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
        path = arguments[0]
        if not isinstance(path, str) or flags & WRITES or not path.startswith(self.library):
            self.found.add("files")
