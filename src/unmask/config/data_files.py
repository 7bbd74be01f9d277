"""Location of the local data files that the configuration names; needs neither pandas nor the file's content."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".jsonl", ".csv", ".parquet")  # the formats that `tasks/_files.READERS` reads


def source_file(path: str, split: str) -> Path:
    """Resolve a local source to a file: the path itself, or the only file in that folder named after the split.

    Raises ValueError if there is none.
    """
    place = Path(path)
    if not place.exists():
        raise ValueError(
            f"{place}: does not exist; correct the path (relative to the folder where snakemake runs) or add the file"
        )
    if not place.is_dir():
        return place
    found = [file for file in sorted(place.iterdir()) if file.stem == split and file.suffix in SUFFIXES]
    if len(found) != 1:
        names = ", ".join(f"{split}{suffix}" for suffix in SUFFIXES)
        raise ValueError(f"{place}: expected one of {names}, found {len(found)}; add it or give the path of a file")
    return found[0]
