"""Folders that carry the hashes of their files, so that a changed bit is found before it is used.

SHA256SUMS is what `sha256sum * > SHA256SUMS` writes; `sha256sum -c SHA256SUMS` checks it without us. Adapters, base
models and checkpoints have one.

Large files of a base model are hashed once, not by every job: a hidden file next to SHA256SUMS remembers their hashes
by path, inode, size and time of change. What changes a file without changing any of these, such as a failing disk, is
found by UNMASK_VERIFY=full, which hashes everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from unmask.files import InputError, sha256, writing

SUMS, MEMORY = "SHA256SUMS", ".verified.json"
LARGE = 16 * 2**20  # bytes; smaller files are hashed faster than they are remembered
SETTLED = 2.0  # seconds; a file that changed less than that before it was read may change again at the same time stamp
VERIFY = "UNMASK_VERIFY"

Known = dict[str, dict[str, Any]]  # by file name: its stamp and digest


def checksums(folder: Path, known: Known | None = None) -> dict[str, str]:
    """SHA-256 of each file in a folder but SHA256SUMS and hidden ones, as the Hugging Face hub gives it too.

    `known` are hashes that need no reading while the stamps of their files are the same; it is updated.
    """
    found: dict[str, str] = {}
    known = {} if known is None else known
    for file in sorted(folder.iterdir()):
        if file.name == SUMS or file.name.startswith("."):
            continue
        stamp = _stamp(file)
        entry = known.get(file.name)
        if entry is not None and entry["stamp"] == stamp:
            found[file.name] = entry["digest"]
            continue
        read_at = time.time()
        with file.open("rb") as stream:
            found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
        known.pop(file.name, None)
        size, changed = stamp["size"], stamp["mtime_ns"] / 1e9
        if size >= LARGE and changed < read_at - SETTLED and _stamp(file) == stamp:
            known[file.name] = {"stamp": stamp, "digest": found[file.name]}
    return found


def _stamp(file: Path) -> dict[str, Any]:
    """What changes when somebody writes a file, or points its link elsewhere."""
    status = file.stat()
    return {
        "path": str(file.resolve()),
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


def seal(folder: Path, linked: dict[str, str] | None = None) -> dict[str, str]:
    """Write SHA256SUMS into a folder, as its last file. Returns the hashes.

    `linked` are hashes of files that another sealed folder holds too: they are taken as they are, so that damage since
    that folder was sealed is still found.
    """
    known: Known = {name: {"stamp": _stamp(folder / name), "digest": digest} for name, digest in (linked or {}).items()}
    found = checksums(folder, known)
    lines = [f"{digest}  {name}\n" for name, digest in found.items()]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    if linked is None:
        _remember(folder, known)
    return found


def sealed(folder: Path) -> dict[str, str]:
    """The hashes in SHA256SUMS, by file. Raises OSError or ValueError if it cannot be read."""
    lines = (folder / SUMS).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def check_seal(folder: Path, mend: str = ". Delete the folder and run snakemake again", remember: bool = False) -> None:
    """Raise InputError that names the files of a sealed folder that are not as they were written.

    With `remember`, large files that were hashed before and have the same stamp are not read, unless UNMASK_VERIFY is
    `full`.
    """
    known = _known(folder) if remember and os.environ.get(VERIFY) != "full" else {}
    before = dict(known)
    try:
        written = sealed(folder)
        written.pop(SUMS, None)  # as `sha256sum *` has it where there was one before
        found = checksums(folder, known)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / SUMS}: cannot be read ({error}){mend}; in a folder from elsewhere that you trust, write it "
            f"with `sha256sum * > {SUMS}`."
        ) from error
    if wrong := sorted(name for name in written.keys() | found.keys() if written.get(name) != found.get(name)):
        raise InputError(f"{folder}: {', '.join(wrong)}: not as {SUMS} says, so damaged or changed{mend}.")
    if remember and known != before:
        _remember(folder, known)


def fingerprint(path: Path) -> str:
    """One hash of a file or folder; of a sealed folder, whose files `check_seal` has checked, that of SHA256SUMS."""
    return sha256(path / SUMS if (path / SUMS).is_file() else path)


def _known(folder: Path) -> Known:
    """The hashes that are remembered; none if that file is absent or not as it was written."""
    try:
        content = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
        return {str(name): {"stamp": entry["stamp"], "digest": entry["digest"]} for name, entry in content.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def _remember(folder: Path, known: Known) -> None:
    """Write the hashes of large files down; where nothing can be written, the next job hashes again."""
    if known:
        with contextlib.suppress(OSError, InputError), writing(folder / MEMORY) as temporary:
            temporary.write_text(json.dumps(known, indent=1), encoding="utf-8")
