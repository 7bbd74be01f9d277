"""Isolation of the current process: namespaces, a root folder with nothing but Python, limits, no privileges.

Everything here happens inside the new process before it sees a program. This file imports nothing of the project.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Iterable, Mapping
from typing import Any

import syscalls

LIBC = ctypes.CDLL(None, use_errno=True)
# Flags of unshare(2): mounts, cgroups, host name, System V and POSIX messages, users, processes, network.
NEW_NS, NEW_CGROUP, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = (
    0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
# Flags of mount(2).
READ_ONLY, NO_SETUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, PRIVATE, RELATIVE_TIME = (
    1, 2, 4, 32, 4096, 16384, 1 << 18, 1 << 21,
)  # fmt: skip
DETACH = 2  # of umount2(2)
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # glibc has no function for it
SET_PARENT_DEATH, DROP_BOUND, NO_NEW_PRIVILEGES, AMBIENT, CLEAR_ALL = 1, 24, 38, 47, 4  # prctl(2)
CAPABILITY_VERSION = 0x20080522
BOX = "/box"  # the empty working folder
UNPRIVILEGED = 60_000  # first of the user ids that root's sandboxes take; below 65,536, which containers map
IDS = 5_000


def leave(flags: int, root: bool) -> None:
    """Enter new namespaces in a child process; only that child returns, as process 1 if the processes are new.

    The original process waits for it, ends it on SIGTERM and exits with its status. `root`: no user namespace is
    needed. Raises OSError if the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    _call("unshare", LIBC.unshare(flags if root else flags | NEW_USER))
    if not root:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"1000 {user} 1")
        _write("/proc/self/gid_map", f"1000 {group} 1")
        # No further user namespace: the privileges in it would open mounts of memory again. Where the file is
        # read-only the list of refused system calls has to do.
        with contextlib.suppress(OSError):
            _write("/proc/sys/user/max_user_namespaces", "0")
    child = os.fork()
    if child:
        _wait_for(child)


def _wait_for(child: int) -> None:
    """Close the pipes, wait for the child and exit with its status."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    os.closerange(0, 64)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def new_root(sources: Iterable[str]) -> None:
    """Make a read-only folder in memory the root: `sources` at their own paths, /dev/null, and an empty /box."""
    wanted = [source for source in sources if os.path.lexists(source)]
    _mount(None, "/", None, RECURSIVE | PRIVATE)
    # The place of the new root is covered by it, so no source may lie there.
    place = next(one for one in ("/mnt", "/tmp", "/srv", "/media", "/opt") if _free(one, wanted))
    _mount("tmpfs", place, "tmpfs", NO_SETUID | NO_DEVICES, "size=256k,mode=755")
    for source in [*wanted, "/dev/null"]:
        _show(source, place + source)
    os.mkdir(place + BOX, 0o555)
    _mount(None, place, None, REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES)

    # The old root ends up on top of the new one and is detached there.
    os.chdir(place)
    _call("pivot_root", LIBC.syscall(PIVOT_ROOT[os.uname().machine], b".", b"."))
    _call("umount", LIBC.umount2(b".", DETACH))
    os.chdir(BOX)


def _free(place: str, sources: list[str]) -> bool:
    return os.path.isdir(place) and not any(source == place or source.startswith(place + "/") for source in sources)


def _show(source: str, target: str) -> None:
    """Make a file or folder visible at `target`, read-only; links are copied."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    _mount(source, target, None, BIND | RECURSIVE)

    # A user namespace may not drop the flags that a mount already has.
    kept = os.statvfs(target).f_flag
    kept = (kept & ~4096) | (RELATIVE_TIME if kept & 4096 else 0)
    _mount(None, target, None, REMOUNT | BIND | READ_ONLY | NO_SETUID | kept)


def drop_privileges(own: int | None) -> None:
    """Give up all capabilities for good, and become the user `own` if given. Raises OSError if that fails."""
    for capability in range(64):
        LIBC.prctl(DROP_BOUND, capability, 0, 0, 0)  # fails past the last one that the kernel knows
    if own is not None:
        os.setgroups([])
        os.setresgid(own, own, own)
        os.setresuid(own, own, own)
    LIBC.prctl(AMBIENT, CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    _call("capset", LIBC.capset(header, (ctypes.c_uint32 * 6)()))
    _call("no_new_privs", LIBC.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; a change of user clears this."""
    LIBC.prctl(SET_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)


def limit(limits: Mapping[str, Any]) -> None:
    """Set the limits for good, then refuse the system calls of `syscalls`. Raises OSError if that fails."""
    own = {
        resource.RLIMIT_CPU: limits["cpu_seconds"],
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, most in own.items():
        resource.setrlimit(kind, (most, most))
    syscalls.install(LIBC)


def isolate(mode: str, sources: list[str], limits: Mapping[str, Any]) -> None:
    """Isolate this process: `unshare` itself, `bwrap` around it already, or `rlimits`. Raises OSError if that fails.

    Root ignores the limit on processes, so it always becomes another user among processes of its own.
    """
    root = os.getuid() == 0
    # Each sandbox has an id of its own, so that the limit on processes counts only itself.
    own = UNPRIVILEGED + os.getpid() % IDS if root else None

    # A change of user clears the request to die with the parent, so it is made on both sides of that change.
    die_with_parent()
    if mode == "unshare":
        leave(NEW_NS | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP, root)
        new_root(sources)
    elif mode == "rlimits" and root:
        leave(NEW_PID, root)
    drop_privileges(own)
    die_with_parent()
    limit(limits)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind, data)]
    _call(f"mount {target}", LIBC.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]))


def _call(name: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
