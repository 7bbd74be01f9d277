"""Pin data set and model revisions: replace unpinned ones in the configuration by the newest commit on the hub.

python src/pin_revisions.py                  needs network access; edits config.yaml and workflow/config/ in place
python src/pin_revisions.py --checkpoints    the same for released checkpoints only
"""

import argparse
import functools
from pathlib import Path
from typing import Any

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step
from unmask.config.loading import merge, read_settings
from unmask.planning.pins import CHECKPOINTS, COMMIT, Loose, loose_revisions, pinned

Settings = dict[str, Any]  # all files of the configuration, merged
DEFAULTS = Path("workflow/config")


def main() -> None:
    """Look up each commit, then write all of them at once. Raises InputError if one lookup fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", default=Path("config.yaml"))
    parser.add_argument(
        "--checkpoints", action="store_true", help="pin the released checkpoints instead of data sets and base models"
    )
    args = parser.parse_args()

    if not DEFAULTS.is_dir():
        print(f"{DEFAULTS} is not in this folder, so only {args.config} is pinned")
    # A revision in config.yaml may belong to a repository that is named in workflow/config/.
    files = [*sorted(DEFAULTS.rglob("*.yaml")), args.config]
    settings = functools.reduce(merge, map(read_settings, files))

    # All lookups come first: a failure leaves the files unchanged instead of half pinned.
    changed = {}
    for file in files:
        text = pinned_text(file, settings, args.checkpoints)
        if text is not None:
            changed[file] = text
    if not changed:
        print(f"{', '.join(map(str, files))}: every revision is a commit already")
    for file, text in changed.items():
        with atomic_write(file) as temporary:
            temporary.write_text(text, encoding="utf-8")


def pinned_text(file: Path, settings: Settings, checkpoints: bool = False) -> str | None:
    """Return the text of a file with the newest commits in place; None if every revision is a commit already."""
    # Plain text, not parsed YAML, so that comments and layout survive.
    text = file.read_text(encoding="utf-8")
    # Apart, because a checkpoint that its authors have moved or withdrawn must not keep anyone from pinning data.
    loose = [one for one in loose_revisions(text, settings) if one.key.startswith(CHECKPOINTS) == checkpoints]
    if not loose:
        return None
    try:
        commits = {one.key: newest_commit(one) for one in loose}
        for one in loose:
            print(f"{one.key}: {commits[one.key]}, the newest commit of {one.repository}")
        return pinned(text, commits, settings)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def newest_commit(one: Loose) -> str:
    """Return the newest commit of a repository's main branch; HF_ENDPOINT selects a hub other than huggingface.co."""
    from huggingface_hub import HfApi, constants

    api = HfApi()
    try:
        ask = api.dataset_info if one.kind == "dataset" else api.model_info
        commit = ask(one.repository, timeout=30).sha or ""
    # No network, offline mode, unknown repository: huggingface_hub raises unrelated classes with no common base.
    except Exception as error:
        place = f"{constants.ENDPOINT}/{one.page}"
        reason, *_ = str(error).splitlines() or [type(error).__name__]
        raise InputError(
            f"{one.key}: cannot look up the commit of {one.repository} ({reason}). On a machine with network access, "
            f"run `git ls-remote {place} HEAD` and copy the 40 digits to this key"
        ) from error
    if not COMMIT.fullmatch(commit):
        raise InputError(f"{one.key}: the hub returned {commit!r}, which is no commit; set it by hand")
    return commit


if __name__ == "__main__":
    run_step(main)
