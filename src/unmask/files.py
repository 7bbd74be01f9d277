"""Files that are whole or absent, and how a step says that one of its inputs is not usable.

Everything is written under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path


class InputError(ValueError):
    """Something a person can mend: the message names the file, key or row and the way out."""


def run_step(main: Callable[[], None]) -> None:
    """Run a step's main; an InputError ends it with its message alone, anything else is a bug with its traceback."""
    try:
        main()
    except InputError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` when the block ends well, remove it when it does not.

    Works for a file and for a folder; a folder replaces what was there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    remove(temporary)
    try:
        yield temporary
        if path.is_dir():
            remove(path)
        os.replace(temporary, path)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, as `sha256sum` and the Hugging Face hub give it."""
    found = {}
    for file in sorted(folder.iterdir()):
        with file.open("rb") as stream:
            found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
