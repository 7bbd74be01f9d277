"""Where examples come from: the Hugging Face hub at a pinned commit, or a file.

A source is a block of config.yaml (`train_source`, `test_source` of a task; its keys are in config/kinds.py). There is
no fallback from one to another: what is not there is an error with the way out. Files are read as they are written: in
CSV every value is text, because guessing types turns the Sudoku "0140…" into a number.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from unmask.files import sha256

Row = dict[str, Any]
Made = TypeVar("Made")


def load_rows(source: dict[str, Any], split: str) -> list[Row]:
    """All rows of the block `{split}_source`, as they stand there; where it names a folder, of its file `{split}.*`."""
    values = {key: value for key, value in source.items() if key != "source"}
    if source["source"] == "hub":
        check_pinned({f"{split}_source": source})
        return hub_rows(**values)
    file = source_file(values["path"], split)
    if source.get("sha256") not in (None, sha256(file)):
        raise ValueError(f"{file}: changed since the spec was written; run snakemake again")
    return file_rows(file)


def read_examples(source: dict[str, Any], split: str, make: Callable[[Row], Made]) -> list[Made]:
    """What `make` makes of every row of a source. Its ValueError is raised again with the row, counted from 1."""
    found = []
    for number, row in enumerate(load_rows(source, split), 1):
        try:
            found.append(make(row))
        except ValueError as error:
            raise ValueError(f"{place_of(source, split)}, row {number} of {split}: {error}") from error
    return found


def place_of(source: dict[str, Any], split: str) -> str:
    """A source in a message: its file, or its repository."""
    return str(source_file(source["path"], split)) if source["source"] == "local" else str(source["repository"])


def check_pinned(settings: dict[str, Any]) -> None:
    """Raise ValueError if a source block among a task's settings is on the hub, but at no commit."""
    for key, block in settings.items():
        hub = block if isinstance(block, dict) and block.get("source") == "hub" else None
        if hub and not re.fullmatch("[0-9a-f]{40}", hub["revision"]):
            place = f"https://huggingface.co/datasets/{hub['repository']}"
            raise ValueError(
                f"{key}.revision: {hub['revision']!r} is not a commit of {hub['repository']}. Where there is a "
                f"network, look one up (`git ls-remote {place} HEAD` prints the newest, {place}/commits/main lists "
                "all) and put its 40 digits there in config.yaml"
            )


def hub_rows(repository: str, subset: str, split: str, revision: str) -> list[Row]:
    """The rows of a split of a data set on the hub, read from the files of the pinned commit."""
    return [row for file in hub_files(repository, subset, split, revision) for row in file_rows(file)]


def hub_files(repository: str, subset: str, split: str, revision: str) -> list[Path]:
    """The files of a split at a commit, from the hub's cache if they are there, else downloaded.

    Raises ValueError with what to do when they cannot be had: no other version is ever taken. A data set that a script
    makes is refused, because its rows are not in its files.
    """
    from datasets import load_dataset_builder
    from huggingface_hub import snapshot_download

    what, script = f"{repository} at {revision[:7]}", f"{repository.rpartition('/')[2]}.py"
    wanted = ["README.md", "dataset_infos.json", script, *(f"*{suffix}" for suffix in READERS)]
    try:
        folder = Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=wanted))
        if (folder / script).is_file():
            raise ValueError("it is made by a script, which is not run")
        with tempfile.TemporaryDirectory() as scratch:
            found = load_dataset_builder(str(folder), subset, cache_dir=scratch).config.data_files or {}
        if split not in found:
            raise ValueError(f"no split {split!r}; there are {', '.join(map(repr, found))}")
        files = sorted(map(Path, found[split]))
        if lost := _missing_parts(files):
            raise ValueError(f"{', '.join(lost)} not there")
        return files
    except (OSError, ValueError) as error:
        offline = " HF_HUB_OFFLINE is set." if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ValueError(
            f"{what}: cannot be loaded ({str(error).splitlines()[0]}).{offline} Where there is a "
            f"network, run `hf download --repo-type dataset {repository} --revision {revision}`; or give a file with "
            "source: local"
        ) from error


def _missing_parts(files: list[Path]) -> list[str]:
    """Names of parts, `…-00001-of-00002…`, that a cache lacks of a split whose other parts it has."""
    names = {file.name for file in files}
    parts = [re.fullmatch(r"(.*-)[0-9]{5}(-of-([0-9]{5}).*)", name) for name in sorted(names)]
    every = [f"{p[1]}{number:05d}{p[2]}" for p in parts if p for number in range(int(p[3]))]
    return [name for name in dict.fromkeys(every) if name not in names]


def read_from_hub(settings: dict[str, Any]) -> dict[str, Any]:
    """What the source blocks among a task's settings have on the hub, for the manifest: commit and SHA-256 of files."""
    read = {}
    for key, block in settings.items():
        if isinstance(block, dict) and block.get("source") == "hub":
            place = {name: value for name, value in block.items() if name != "source"}
            digests = {}
            for file in hub_files(**place):
                with file.open("rb") as stream:
                    digests[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
            read[key] = place | {"files": digests}
    return read


def source_file(path: str, split: str) -> Path:
    """The file that a local source names: itself, or the one file in the folder that is called like the split."""
    place = Path(path)
    if not place.exists():
        raise ValueError(f"{place}: not there; correct the path (it starts where snakemake runs) or bring the file")
    if not place.is_dir():
        return place
    found = [file for file in sorted(place.iterdir()) if file.stem == split and file.suffix in READERS]
    if len(found) != 1:
        names = ", ".join(f"{split}{suffix}" for suffix in READERS)
        raise ValueError(f"{place}: one of {names} should be there, found {len(found)}; add it or name the file itself")
    return found[0]


def local_files(settings: dict[str, Any]) -> dict[str, Path]:
    """Return the local files that a task's settings name, data and prompts, for the manifest."""
    files = {}
    for key, value in settings.items():
        if key.endswith("prompt_file") and value:
            files[key] = Path(value["path"] if isinstance(value, dict) else value)
        elif isinstance(value, dict) and value.get("source") == "local":  # other blocks are no sources
            files[key] = source_file(value["path"], key.removesuffix("_source"))
    return files


def file_rows(file: Path) -> list[Row]:
    """The rows of a JSON lines, CSV or parquet file. Raises ValueError that names the file and line."""
    if file.suffix not in READERS:
        raise ValueError(f"{file}: not one of {', '.join(READERS)}; convert it")
    try:
        rows = READERS[file.suffix](file)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{file}: cannot be read ({error}); correct the path or the file") from error
    if not rows:
        raise ValueError(f"{file}: no rows in it")
    return rows


def column(row: Row, *names: str) -> Any:
    """The value in the first of these columns that the row has: the same problem is called differently elsewhere."""
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        if empty := [name for name in names if name in row]:
            raise ValueError(f"{' and '.join(empty)} is null")
        raise ValueError(f"no column {' or '.join(names)} in a row with {', '.join(map(str, row))}")
    return row[name]


def text(row: Row, *names: str) -> str:
    """The same, if it is text that can be written to a file."""
    value = column(row, *names)
    if not isinstance(value, str):
        raise ValueError(f"{' or '.join(names)} is {shown(value)}, not text")
    value.encode()  # half a character, as JSON can hold it, is a ValueError
    return value


def statement(row: Row, *names: str) -> str:
    """The same, if there is more to it than white space."""
    found = text(row, *names)
    if not found.strip():
        raise ValueError(f"{' or '.join(names)} is empty")
    return found


def whole_number(value: Any) -> int:
    """A whole number of at most nine digits, or its text."""
    digits = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", digits):
        raise ValueError(f"{shown(value)} is no whole number of at most 9 digits")
    return int(digits)


def shown(value: Any) -> str:
    """A value in a message: the beginning of it."""
    return f"{value!a:.60}"


def cut_off(examples: list[Row], count: int, seed: int) -> tuple[list[Row], list[Row]]:
    """The examples without a random `count` of them, and those; both in their order."""
    if count >= len(examples):
        raise ValueError(f"cannot cut {count} validation examples from {len(examples)}; ask for fewer")
    chosen = set(random.Random(seed).sample(range(len(examples)), count))
    return [e for i, e in enumerate(examples) if i not in chosen], [examples[i] for i in sorted(chosen)]


def _jsonl(file: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"line {number}: not an object")
            rows.append(row)
    return rows


def _csv(file: Path) -> list[Row]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def _parquet(file: Path) -> list[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(file).to_pylist()
    except (pa.ArrowException, ArithmeticError) as error:  # not all of them are a ValueError
        raise ValueError(str(error)) from error


READERS: dict[str, Callable[[Path], list[Row]]] = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
