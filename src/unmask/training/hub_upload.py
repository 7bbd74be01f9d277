"""Upload of a finished run's adapter, or of its export, to the Hugging Face hub.

Weights are uploaded as they are, after their hashes were checked. The card and adapter_config.json are changed where
they would be wrong on the hub: how to use the files, and a base model that is a folder on one machine. The token is
read from HF_TOKEN only, and is removed from messages. Torch-free.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.common.checksums import SUMS, fingerprint, sealed, verify_checksums, write_checksums
from unmask.common.errors import InputError
from unmask.common.manifest import read_manifest
from unmask.training.model_card import CARD, hub_base, uploaded_card

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MANIFEST, CONFIG = "manifest.json", "adapter_config.json"
SAFE = (".safetensors", ".json", ".md", ".jinja", ".txt")  # no code and no pickles
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def adapter_in(folder: Path) -> Path:
    """Return the adapter in a run's folder, or the folder itself if it is an export; its hashes have been checked.

    Raises InputError if the run is not finished, or if a file is damaged, missing, or neither weights nor text.
    """
    is_run = (folder / "adapter").is_dir()
    adapter = folder / "adapter" if is_run else folder
    if not is_run and not (folder / CONFIG).is_file():
        raise InputError(
            f"{folder}: has neither a folder `adapter` nor {CONFIG}; name the folder of a run or an export"
        )
    if is_run and not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: no {MANIFEST}, so this run is not finished; run snakemake first")
    if not (adapter / SUMS).is_file():
        raise InputError(
            f"{adapter}: no {SUMS}, so nothing says whether its files are whole; make the run or the export again"
        )
    verify_checksums(adapter, fix=". Make the run or the export again before you upload it")
    if is_run and read_manifest(folder / MANIFEST)["outputs"].get("adapter") != fingerprint(adapter):
        raise InputError(f"{folder}: {MANIFEST} describes another adapter; run snakemake again")

    names = sealed(adapter)
    unsafe = [name for name in names if not name.endswith(SAFE)]
    if unsafe:
        raise InputError(f"{adapter}: {', '.join(unsafe)}: only {', '.join(SAFE)} are uploaded; remove it")
    if CARD not in names:
        raise InputError(f"{adapter}: no {CARD}, the model card; only adapters of runs and their exports have one")
    return adapter


def stage(folder: Path, repository: str, out: Path) -> list[str]:
    """Fill a new folder `out` with the files to upload to `repository`; return what was changed, a line for each file.

    Raises InputError like `adapter_in`, or if the name of the repository or the model card cannot be used.
    """
    if not REPOSITORY.fullmatch(repository):
        raise InputError(f"--repo: {repository!r} is not owner/name")
    adapter = adapter_in(folder)
    hashes = sealed(adapter)
    out.mkdir(parents=True)
    for name in hashes:
        (out / name).symlink_to((adapter / name).resolve())

    card = (adapter / CARD).read_text(encoding="utf-8")
    try:
        text = uploaded_card(card, repository)
    except InputError as error:
        raise InputError(f"{adapter}: {error}") from None
    missing = "" if hub_base(card) else ", and that the base model is not there"
    changes = [f"{CARD}: how to use it from the hub{missing}"]
    _replace(out / CARD, text)
    if CONFIG in hashes:
        changes += _name_base(out / CONFIG, hub_base(card))
    if adapter != folder:
        # The card refers to it; everything else in a run's folder can be made again.
        shutil.copyfile(folder / MANIFEST, out / MANIFEST)
    write_checksums(out)
    return changes


def _name_base(file: Path, base: tuple[str, str] | None) -> list[str]:
    """Make adapter_config.json name the base model as the hub does, or not at all if it is not there."""
    config = json.loads(file.read_text(encoding="utf-8"))
    name, revision = base or (None, None)
    before = config.get("base_model_name_or_path")
    if (before, config.get("revision")) == (name, revision):
        return []
    config |= {"base_model_name_or_path": name, "revision": revision}
    _replace(file, json.dumps(config, indent=2) + "\n")
    return [f"{CONFIG}: base model {name} instead of {before}"]


def _replace(file: Path, text: str) -> None:
    # The link is replaced; what it leads to stays as it is.
    file.unlink(missing_ok=True)
    file.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Hub:
    """The hub at HF_ENDPOINT, with a token that no message shows."""

    api: HfApi
    token: str

    @classmethod
    def from_environment(cls) -> Hub:
        """Read HF_TOKEN. Raises InputError, which does not quote it, if it is missing or cannot be a token."""
        from huggingface_hub import HfApi

        token = os.environ.get("HF_TOKEN", "").strip()
        if not token:
            raise InputError("HF_TOKEN is not set; create a token with write access on the hub and export it")
        if not re.fullmatch(r"[\w.-]+", token, re.ASCII):
            raise InputError("HF_TOKEN contains characters that no token has; copy it again")
        return cls(HfApi(token=token), token)

    def push(self, staged: Path, repository: str, *, private: bool) -> str:
        """Upload all files of a folder as one commit; return its address. A missing repository is created.

        Raises InputError if the hub refuses or does not answer, or if the repository is public although `private`, or
        has files that would remain next to the new ones.
        """
        from huggingface_hub import CommitOperationAdd

        names = sorted(file.name for file in staged.iterdir() if not file.name.startswith("."))
        found = self._ask(lambda: self._find(repository))
        if found is None:
            self._ask(lambda: self.api.create_repo(repository, private=private))
        else:
            _check_existing(repository, found, names, private=private)
        files = [CommitOperationAdd(name, str((staged / name).resolve())) for name in names]
        message = f"Upload adapter {fingerprint(staged)[:12]}"
        done = self._ask(lambda: self.api.create_commit(repository, files, commit_message=message))
        return str(done.commit_url)

    def _find(self, repository: str) -> Any:
        """Return what the hub says about a repository; None if it does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            return self.api.model_info(repository)
        except RepositoryNotFoundError:
            return None

    def _ask(self, request: Callable[[], Any]) -> Any:
        """Make a request. Raises InputError, without the token, if it fails for any reason."""
        try:
            return request()
        except Exception as error:
            said = f"{type(error).__name__}: {error}".replace(self.token, "HF_TOKEN")
        # Raised outside of the handler: the original error, whose text may have the token, is not shown with it.
        raise InputError(f"{self.api.endpoint}: {said}")


def _check_existing(repository: str, found: Any, names: list[str], *, private: bool) -> None:
    if private and not found.private:
        raise InputError(f"{repository} exists and is public; choose another name, or add --public")
    others = {file.rfilename for file in found.siblings or []} - {*names, ".gitattributes"}
    if others:
        raise InputError(
            f"{repository} exists and has {', '.join(sorted(others)[:6])}, which would remain next to this upload; "
            "choose another name, or remove them there"
        )
