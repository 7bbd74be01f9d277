"""Folders that carry the hashes of their files, so that a changed bit is found before it is used.

SHA256SUMS is what `sha256sum * > SHA256SUMS` writes; `sha256sum -c SHA256SUMS` checks it without us. Adapters, base
models and checkpoints have one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from unmask.files import InputError

SUMS = "SHA256SUMS"


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder but SHA256SUMS and hidden ones, as the Hugging Face hub gives it too."""
    found = {}
    for file in sorted(folder.iterdir()):
        if file.name != SUMS and not file.name.startswith("."):
            with file.open("rb") as stream:
                found[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def seal(folder: Path) -> dict[str, str]:
    """Write SHA256SUMS into a folder, as its last file. Returns the hashes."""
    found = checksums(folder)
    lines = [f"{digest}  {name}\n" for name, digest in found.items()]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return found


def check_seal(folder: Path, mend: str = ". Delete the folder and run snakemake again") -> None:
    """Raise InputError that names the files of a sealed folder that are not as they were written."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        written = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        written.pop(SUMS, None)  # as `sha256sum *` has it where there was one before
        found = checksums(folder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder / SUMS}: cannot be read ({error}){mend}; in a folder from elsewhere that you trust, write it "
            f"with `sha256sum * > {SUMS}`."
        ) from error
    if wrong := sorted(name for name in written.keys() | found.keys() if written.get(name) != found.get(name)):
        raise InputError(f"{folder}: {', '.join(wrong)}: not as {SUMS} says, so damaged or changed{mend}.")
