"""Where a published checkpoint lies: in the hub's cache, fetched at a pinned commit, or in a folder of one's own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from unmask.files import InputError

# Weights, configuration and tokenizer; no pickle files and no code.
FILES = ("*.safetensors", "*.json", "*.jinja", "merges.txt")


def checkpoint_folder(name: str, source: str, settings: dict[str, Any]) -> Path:
    """The folder of the model `name` in config.yaml. Raises InputError with the way out when it cannot be had."""
    if source == "hub":
        return fetch(name, **settings)
    folder = Path(settings["path"])
    if not folder.is_dir():
        raise InputError(f"models.{name}.path: {folder} is no folder; correct it (it starts where snakemake runs)")
    return folder


def fetch(name: str, repository: str, revision: str) -> Path:
    """A repository of the Hugging Face hub at a commit, from its cache if it is there, else downloaded."""
    if not re.fullmatch("[0-9a-f]{40}", revision):
        raise InputError(
            f"models.{name}.revision: {revision!r} is not a commit; choose one of "
            f"https://huggingface.co/{repository}/commits/main and put its 40 digits in config.yaml"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
    except (OSError, ValueError) as error:
        offline = " HF_HUB_OFFLINE is set." if os.environ.get("HF_HUB_OFFLINE") else ""
        raise InputError(
            f"models.{name}: {repository} at {revision[:7]} cannot be had ({str(error).splitlines()[0]}).{offline} "
            f"Where there is a network, run `hf download {repository} --revision {revision}`; or give a folder with "
            "source: local"
        ) from error


def link(checkpoint: Path, folder: Path) -> None:
    """Make `folder` with a link to each file of the checkpoint.

    Links, not copies: a checkpoint has 16 GB, and lies in the hub's cache already. Symbolic ones, because results and
    cache are often on different file systems. Where the cache is emptied, loading names the file that is gone, and
    this step, run again, brings it back.
    """
    folder.mkdir(parents=True)
    for file in sorted(file for pattern in FILES for file in checkpoint.glob(pattern)):
        (folder / file.name).symlink_to(file.resolve())
