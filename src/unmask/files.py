"""Files that are whole or absent, and how a step says that one of its inputs is not usable.

Everything is written under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# What keeps a file from being written that a person can mend.
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ENOTDIR}


class InputError(ValueError):
    """Something a person can mend: the message names the file, key or row and the way out."""


class TransientError(InputError):
    """One that may be gone at the next attempt although nobody changes the input: another process, a full disk."""


# The last words of a step in a workflow's job that refuses its input; the workflow reads them in the job's log.
REFUSED = "Not tried again: it would end the same way until the input is changed."


def run_step(main: Callable[[], None]) -> None:
    """Run a step's main; an InputError ends it with its message alone, anything else is a bug with its traceback."""
    try:
        main()
    except InputError as error:
        final = "UNMASK_WORKFLOW" in os.environ and not isinstance(error, TransientError)
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}" + final * f"\n{REFUSED}")


def refused(log: Path) -> bool:
    """Whether the step that wrote this log refused its input. A log that cannot be seen (yet) says no."""
    try:
        return REFUSED in log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, remove it when it does not.

    Works for a file and for a folder; a folder replaces what was there. InputError if the disk is full or read-only.
    """
    path = Path(path)
    temporary = _hidden(path, "new")
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path, "new|old")
        try:
            yield temporary
            _apply_umask(temporary)
            if path.is_dir() and not path.is_symlink():  # set aside first: it is gone only for a moment
                aside = path.rename(_hidden(path, "old"))
                os.replace(temporary, path)
                remove(aside)
            else:
                os.replace(temporary, path)
        finally:
            remove(temporary)


def _read_umask() -> int:
    """The umask of this process, which can only be read by setting it: at import, before there are threads."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


UMASK = _read_umask()


def _apply_umask(path: Path) -> None:
    """Let others read what was written, as far as the umask does: safetensors makes files for their owner alone."""
    for file in (path, *path.rglob("*")):
        if not file.is_symlink() and file.is_file() and stat.S_IMODE(file.stat().st_mode) == 0o600:
            file.chmod(0o666 & ~UMASK)


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """What keeps the block from writing `path`, such as a full disk, becomes an InputError."""
    try:
        yield
    except Exception as error:  # each library has a class of its own for it
        found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors'
        number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
        if number not in UNWRITABLE:
            raise
        raise TransientError(f"{path}: cannot be written: {os.strerror(number)}. Mend that and start again.") from error


def remove(path: Path) -> None:
    """Remove a file or folder if it is there; a folder is gone at once, never partly there under its name."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    if path.name.startswith("."):
        shutil.rmtree(path)
        return
    _remove_leftovers(path, "old")
    shutil.rmtree(path.rename(_hidden(path, "old")))


def forget(manifest: Path) -> None:
    """Remove a manifest before what it describes is replaced, so that it never describes files made since."""
    with writable(manifest):
        manifest.unlink(missing_ok=True)


def _hidden(path: Path, kind: str) -> Path:
    """The name that a file or folder has before it is whole, or while it is being removed."""
    return path.with_name(f".{path.name}.{kind}.{socket.gethostname()}-{os.getpid()}.tmp")


def _remove_leftovers(path: Path, kinds: str) -> None:
    """Remove what this process, or killed ones of this machine, left of `path` under hidden names."""
    pattern = rf"\.{re.escape(path.name)}\.(?:{kinds})\.{re.escape(socket.gethostname())}-(\d+)\.tmp"
    for left in path.parent.iterdir():
        found = re.fullmatch(pattern, left.name)
        if found and (int(found[1]) == os.getpid() or not is_running(int(found[1]))):
            remove(left)


def is_running(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except OSError as error:  # a process of another user is no ProcessLookupError
        return not isinstance(error, ProcessLookupError)
    except OverflowError:
        return False
    return True


def sha256(path: Path) -> str:
    """Hash of a file's bytes, or of all files in a folder with their names."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):  # a file of a published model has gigabytes
                digest.update(chunk)
    return digest.hexdigest()
