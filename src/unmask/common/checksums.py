"""Sealed folders: a SHA256SUMS file holds the hashes of all others, so that corruption is found before use.

SHA256SUMS has the format of `sha256sum * > SHA256SUMS`, and `sha256sum -c SHA256SUMS` checks it. Adapters, base models
and checkpoints are sealed.

Large files of a base model are hashed once, not by every job: a hidden file next to SHA256SUMS caches their hashes by
path, inode, size and modification time. Corruption that changes none of these, such as a failing disk, is only found
with UNMASK_VERIFY=full, which hashes everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import TypedDict

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError

SUMS, MEMORY = "SHA256SUMS", ".verified.json"
LARGE = 16 * 2**20  # bytes; smaller files are not worth caching
SETTLED = 2.0  # seconds; a file modified more recently may change again without a new time stamp
VERIFY = "UNMASK_VERIFY"


class Stamp(TypedDict):
    """Identity of a file, which changes when it is written or its link is redirected."""

    path: str
    inode: int
    size: int
    mtime_ns: int


class Entry(TypedDict):
    """Cached hash of a file, valid while the file has this stamp."""

    stamp: Stamp
    digest: str


Known = dict[str, Entry]  # by file name


def checksums(folder: Path, known: Known | None = None) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder except SHA256SUMS and hidden files.

    These are the hashes that the Hugging Face hub shows. `known` holds cached hashes, which are used while the stamps
    of their files are unchanged; it is updated in place.
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
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        found[file.name] = digest

        # Cache a hash only if the file was not modified shortly before or during reading.
        known.pop(file.name, None)
        is_large = stamp["size"] >= LARGE
        changed = stamp["mtime_ns"] / 1e9
        if is_large and changed < read_at - SETTLED and _stamp(file) == stamp:
            known[file.name] = {"stamp": stamp, "digest": digest}
    return found


def _stamp(file: Path) -> Stamp:
    status = file.stat()
    return {
        "path": str(file.resolve()),
        "inode": status.st_ino,
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


def write_checksums(folder: Path, linked: dict[str, str] | None = None) -> dict[str, str]:
    """Write SHA256SUMS into a folder, as its last file; return the hashes.

    `linked` holds hashes of files that are hard links into another sealed folder. They are not computed again, so that
    damage since that folder was sealed is still detected.
    """
    known: Known = {}
    for name, digest in (linked or {}).items():
        known[name] = {"stamp": _stamp(folder / name), "digest": digest}
    found = checksums(folder, known)
    lines = [f"{digest}  {name}\n" for name, digest in found.items()]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    # Checkpoints pass `linked`, and resuming hashes them in full, so a cache would go unread.
    if linked is None:
        _remember(folder, known)
    return found


def sealed(folder: Path) -> dict[str, str]:
    """Return the hashes in SHA256SUMS, by file. Raises OSError or ValueError if it cannot be read."""
    text = (folder / SUMS).read_text(encoding="utf-8")
    hashes = {}
    for line in text.removesuffix("\n").split("\n"):
        digest, name = line.split("  ", 1)
        hashes[name] = digest
    return hashes


def verify_checksums(
    folder: Path, fix: str = ". Delete the folder and run snakemake again", remember: bool = False
) -> None:
    """Raise InputError that names the files of a sealed folder that differ from SHA256SUMS.

    `fix` is appended to the message and says how to fix it. With `remember`, large files that were hashed before and
    have the same stamp are not read again, unless UNMASK_VERIFY is `full`.
    """
    # `checksums` updates `known`; the copy tells whether the cache has to be written again.
    use_cache = remember and os.environ.get(VERIFY) != "full"
    known = _known(folder) if use_cache else {}
    before = dict(known)
    try:
        written = sealed(folder)
        written.pop(SUMS, None)  # `sha256sum *` lists it if it existed already
        found = checksums(folder, known)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / SUMS}: cannot be read ({error}){fix}; in a folder from elsewhere that you trust, write it "
            f"with `sha256sum * > {SUMS}`."
        ) from error

    # The union of names: missing and additional files are as wrong as changed ones.
    names = sorted(written.keys() | found.keys())
    wrong = [name for name in names if written.get(name) != found.get(name)]
    if wrong:
        raise InputError(f"{folder}: {', '.join(wrong)}: not as recorded in {SUMS}, so damaged or changed{fix}.")
    if remember and known != before:
        _remember(folder, known)


def fingerprint(path: Path) -> str:
    """Return one hash of a file or folder; for a sealed folder (see `verify_checksums`), that of SHA256SUMS."""
    sums = path / SUMS
    return sha256(sums if sums.is_file() else path)


def _known(folder: Path) -> Known:
    """Return the cached hashes; none if the cache is missing or malformed."""
    try:
        content = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
        known: Known = {}
        for name, entry in content.items():
            known[str(name)] = {"stamp": entry["stamp"], "digest": entry["digest"]}
        return known
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def _remember(folder: Path, known: Known) -> None:
    """Write the cache of hashes; where the folder is not writable, the next job hashes again."""
    if not known:
        return
    text = json.dumps(known, indent=1)
    with contextlib.suppress(OSError, InputError), atomic_write(folder / MEMORY) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, or of all files in a folder with their names."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):  # weight files have gigabytes
                digest.update(chunk)
    return digest.hexdigest()
