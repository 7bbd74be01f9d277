"""Atomic writes (temporary name, then rename) and the errors by which a step reports an unusable input."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from unmask.common.errors import TransientError

# Write errors that the user can fix: disk full, quota, read-only, permissions, I/O error, file too large.
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ENOTDIR}


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` on success, remove it on failure.

    Works for files and folders; a folder replaces an existing one. Raises TransientError if the disk is full or
    read-only.
    """
    path = Path(path)
    temporary = _hidden(path, "new")
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path, "new|old")
        try:
            yield temporary
            _apply_umask(temporary)
            # A rename cannot replace a folder with files in it. The old one is set aside first and deleted last, so
            # that `path` is missing only between two renames.
            if path.is_dir() and not path.is_symlink():
                aside = path.rename(_hidden(path, "old"))
                os.replace(temporary, path)
                remove(aside)
            else:
                os.replace(temporary, path)
        finally:
            remove(temporary)


def _read_umask() -> int:
    """Return the umask of this process, which can only be read by setting it: at import, before threads start."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


UMASK = _read_umask()


def _apply_umask(path: Path) -> None:
    """Give files the mode that the umask allows; safetensors creates them readable by their owner only."""
    for file in (path, *path.rglob("*")):
        if file.is_symlink() or not file.is_file():
            continue
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode == 0o600:
            file.chmod(0o666 & ~UMASK)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn errors that keep the block from writing `path`, such as a full disk, into a TransientError."""
    try:
        yield
    except Exception as error:  # libraries wrap OSError in their own classes
        number = _errno(error)
        if number not in UNWRITABLE:
            raise
        raise TransientError(f"{path}: cannot be written: {os.strerror(number)}. Fix this and start again.") from error


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # safetensors, written in Rust, gives the errno only in its text.
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is None:
        return None
    return int(found[1])


def remove(path: Path) -> None:
    """Remove a file or folder if it exists; a folder disappears atomically, never partly deleted under its name."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # Hidden folders are leftovers already, and nothing reads them: no need to rename first.
    if path.name.startswith("."):
        shutil.rmtree(path)
        return
    _remove_leftovers(path, "old")
    shutil.rmtree(path.rename(_hidden(path, "old")))


def forget(manifest: Path) -> None:
    """Remove a manifest before its files are replaced, so that it never describes newer files."""
    with writable(manifest):
        manifest.unlink(missing_ok=True)


def _hidden(path: Path, kind: str) -> Path:
    """Return the hidden name of a file or folder that is being written (`new`) or removed (`old`)."""
    return path.with_name(f".{path.name}.{kind}.{socket.gethostname()}-{os.getpid()}.tmp")


def _remove_leftovers(path: Path, kinds: str) -> None:
    """Remove hidden leftovers of `path` from this process or from dead processes on this machine."""
    # Host and pid are in the name: a live process, or one on another machine, may still be writing its own.
    name = re.escape(path.name)
    host = re.escape(socket.gethostname())
    pattern = rf"\.{name}\.(?:{kinds})\.{host}-(\d+)\.tmp"
    for left in path.parent.iterdir():
        found = re.fullmatch(pattern, left.name)
        if found is None:
            continue
        pid = int(found[1])
        if pid == os.getpid() or not is_running(pid):
            remove(left)


def is_running(pid: int) -> bool:
    """Return True if a process with this pid runs on this machine."""
    try:
        os.kill(pid, 0)
    except OSError as error:  # PermissionError: it runs, but belongs to another user
        return not isinstance(error, ProcessLookupError)
    except OverflowError:
        return False
    return True
