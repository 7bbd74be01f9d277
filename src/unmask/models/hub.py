"""Location of a published checkpoint: the hub's cache, filled at a pinned commit, or a local folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from unmask.common.errors import InputError
from unmask.config.schema.checkpoints import HubPlace, LocalPlace
from unmask.config.schema.models import HubModel, LocalModel

# Weights, configuration and tokenizer. Pickle files and code are never fetched, because neither is ever run.
FILES = ("*.safetensors", "*.json", "*.jinja", "merges.txt")


def checkpoint_folder(name: str, settings: HubModel | LocalModel) -> Path:
    """Return the folder of the model `name` of config.yaml, fetching it if needed.

    Raises InputError that says how to fix it if the model is not available.
    """
    if isinstance(settings, HubModel):
        return fetch(f"models.{name}", settings.repository, settings.revision)
    return _local(f"models.{name}", settings.path)


def released_folder(name: str, place: HubPlace | LocalPlace) -> Path:
    """Return the folder of the released checkpoint `name` of config.yaml, fetching it if needed.

    Raises InputError that says how to fix it if the checkpoint, or its subfolder, is not available.
    """
    key = f"checkpoints.{name}"
    if isinstance(place, LocalPlace):
        return _local(key, place.path)
    whole = fetch(key, place.repository, place.revision, place.subfolder)
    folder = whole / place.subfolder
    if not folder.is_dir():
        raise InputError(
            f"{key}.subfolder: {place.repository} has no folder {place.subfolder!r} with weights at "
            f"{place.revision[:7]}; its folders are listed on "
            f"https://huggingface.co/{place.repository}/tree/{place.revision}"
        )
    return folder


def _local(key: str, path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(
            f"{key}.path: {folder} is not a folder; correct the path (relative to the folder where snakemake runs)"
        )
    return folder


def fetch(key: str, repository: str, revision: str, subfolder: str = "") -> Path:
    """Return a repository of the Hugging Face hub at a commit, from the cache if possible, else downloaded.

    With `subfolder`, only the files in that folder are fetched. `key` names the checkpoint in errors.
    Raises InputError if `revision` is not a full commit hash or if the download fails.
    """
    # A branch or tag can move, and the same settings would then name different weights.
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise InputError(
            f"{key}.revision: {revision!r} is not a full commit hash; choose one from "
            f"https://huggingface.co/{repository}/commits/main and put its 40 digits there"
        )
    # Imported late: local and scratch models do not need the hub client.
    from huggingface_hub import snapshot_download

    wanted = [f"{subfolder}/{pattern}" if subfolder else pattern for pattern in FILES]
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError) as error:
        cause, *_ = str(error).splitlines()
        offline = " HF_HUB_OFFLINE is set." if os.environ.get("HF_HUB_OFFLINE") else ""
        raise InputError(
            f"{key}: {repository} at {revision[:7]} is not available ({cause}).{offline} "
            f"Run `hf download {repository} --revision {revision}` on a machine with network access, or use a local "
            "folder with source: local"
        ) from error


def link(checkpoint: Path, folder: Path) -> None:
    """Create `folder` with a symbolic link to each file of the checkpoint.

    Files are linked, not copied: a checkpoint has 16 GB and is already in the hub's cache. The links are symbolic,
    because results and cache are often on different file systems. If the cache is cleared, loading names the missing
    file, and rerunning this step restores it.
    """
    folder.mkdir(parents=True)
    files: list[Path] = []
    for pattern in FILES:
        files += checkpoint.glob(pattern)
    for file in sorted(files):
        (folder / file.name).symlink_to(file.resolve())
