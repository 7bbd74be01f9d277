"""Pin data set and model revisions: replace unpinned ones in config.yaml by the newest commit on the hub.

python src/pin_revisions.py               needs network access; edits config.yaml in place
"""

import argparse
from pathlib import Path

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step
from unmask.planning.pins import COMMIT, Loose, loose_revisions, pinned


def main() -> None:
    """Look up each commit, then write all of them at once. Raises InputError if one lookup fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", default=Path("config.yaml"))
    args = parser.parse_args()

    # Plain text, not parsed YAML, so that comments and layout of config.yaml survive.
    try:
        text = args.config.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{args.config}: cannot be read ({error}); pass the path of the configuration file") from error

    # All lookups come first: a failure leaves the file unchanged instead of half pinned.
    loose = loose_revisions(text)
    commits = {one.key: newest_commit(one) for one in loose}
    for one in loose:
        print(f"{one.key}: {commits[one.key]}, the newest commit of {one.repository}")
    if not loose:
        print(f"{args.config}: every revision is a commit already")
        return
    with atomic_write(args.config) as temporary:
        temporary.write_text(pinned(text, commits), encoding="utf-8")


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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{one.key}: cannot look up the commit of {one.repository} ({reason}). On a machine with network access, "
            f"run `git ls-remote {place} HEAD` and copy the 40 digits to this key in config.yaml"
        ) from error
    if not COMMIT.fullmatch(commit):
        raise InputError(f"{one.key}: the hub returned {commit!r}, which is no commit; set it by hand")
    return commit


if __name__ == "__main__":
    run_step(main)
