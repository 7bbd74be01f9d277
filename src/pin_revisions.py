"""Pin revisions of data sets and models: put the hub's newest commit where config.yaml has none yet.

python src/pin_revisions.py               on a machine with a network; edits config.yaml in place
"""

import argparse
from pathlib import Path

from unmask.files import InputError, run_step, writing
from unmask.pins import COMMIT, Loose, loose_revisions, pinned


def main() -> None:
    """Ask the hub for each commit, then write all of them at once. Raises InputError if one cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", default=Path("config.yaml"))
    args = parser.parse_args()
    try:
        text = args.config.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{args.config}: cannot be read ({error}); name the configuration file") from error
    loose = loose_revisions(text)
    commits = {one.key: newest_commit(one) for one in loose}
    for one in loose:
        print(f"{one.key}: {commits[one.key]}, the newest commit of {one.repository}")
    if not loose:
        print(f"{args.config}: every revision is a commit already")
        return
    with writing(args.config) as temporary:
        temporary.write_text(pinned(text, commits), encoding="utf-8")


def newest_commit(one: Loose) -> str:
    """The commit that a repository's main branch is at. HF_ENDPOINT names another hub than huggingface.co."""
    from huggingface_hub import HfApi, constants

    api = HfApi()
    try:
        ask = api.dataset_info if one.kind == "dataset" else api.model_info
        commit = ask(one.repository, timeout=30).sha or ""
    except Exception as error:  # no network, offline mode, no such repository: each has a class of its own
        place = f"{constants.ENDPOINT}/{one.page}"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{one.key}: the hub does not tell the commit of {one.repository} ({reason}). Where there is a network, "
            f"`git ls-remote {place} HEAD` prints it; put its 40 digits there in config.yaml"
        ) from error
    if not COMMIT.fullmatch(commit):
        raise InputError(f"{one.key}: the hub names {commit!r}, not a commit; put one there by hand")
    return commit


if __name__ == "__main__":
    run_step(main)
