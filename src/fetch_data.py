"""Fetch test sets and prompts for the papers' scale from d1's repository at one commit; no hub has these test sets.

python src/fetch_data.py                  writes to data/ in the working directory, where the configuration expects them
python src/fetch_data.py --address file:///path/to/d1          from a local clone, without network access
"""

import argparse
import functools
import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step
from unmask.tasks._released_prompts import PROMPTS, prompt_place

REPOSITORY = "dllm-reasoning/d1"
COMMIT = "837888f22c21a5da91a0af2b0d7b19e81d9b47ec"
# Path in that repository -> path named in workflow/config/scales/llada-8b.yaml, and SHA-256 of the file.
FILES = {
    "dataset/countdown_cd3_test.jsonl": (
        "data/countdown/test.jsonl",
        "9916f614621e26fb2b035ed4ea641e35e4fff0d533bb9b9c7bcaaa61017d88c6",
    ),
    "dataset/4x4_test_sudoku.csv": (
        "data/sudoku/test.csv",
        "ef86c7c28ebef88484d85fda59b3909a7b621241aa1abf36343437dbc4a3ffb6",
    ),
}
SECONDS = 30  # network timeout


def main() -> None:
    """Fetch missing files and verify all of them.

    Raises InputError if one cannot be fetched or has another hash, with the commands for a machine with a network.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    address = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}"
    parser.add_argument("--address", default=address, help="base URL of the repository's files (default: GitHub)")
    args = parser.parse_args()

    for source, (path, digest) in FILES.items():
        outcome = provide(Path(path), digest, f"{args.address}/{source}")
        print(f"{path}: {outcome}", flush=True)

    # Released prompts are string constants or functions in d1's code; the text is cut out, the code is never run.
    for (task, use), prompt in PROMPTS.items():
        path = prompt_place(task, use)
        outcome = provide(Path(path), prompt.sha256, f"{args.address}/{prompt.source}", prompt.cut_out)
        print(f"{path}: {outcome}", flush=True)


def provide(path: Path, digest: str, address: str, cut_out: Callable[[str], str] | None = None) -> str:
    """Fetch one file, or the text that `cut_out` extracts from it, to `path` unless it exists; return the outcome.

    Existing files are never overwritten. Raises InputError if an existing or fetched file is not the pinned one.
    """
    if path.exists():
        if sha256(path.read_bytes()) != digest:
            raise InputError(f"{path}: not the file of {REPOSITORY} at {COMMIT[:7]} (SHA-256 differs); move it away")
        return "already there, SHA-256 checked"

    # Nothing is written until the hash matches: a wrong file would be found only in the results.
    content = fetch(address)
    try:
        if cut_out:
            content = cut_out(content.decode()).encode()
    except (ValueError, SyntaxError) as error:
        raise InputError(f"{address}: {error}; nothing is kept.\n{by_hand()}") from error
    found = sha256(content)
    if found != digest:
        raise InputError(f"{address}: its SHA-256 is {found}, not {digest}; nothing is kept.\n{by_hand()}")
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return "fetched, SHA-256 checked"


@functools.cache
def fetch(address: str) -> bytes:
    """Return the content at an address; cached, because one source file holds several prompts."""
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:  # noqa: S310 (https, a clone, or a test's http)
            return bytes(answer.read())
    except (OSError, ValueError) as error:  # no network, a proxy that refuses, 404
        raise InputError(f"{address}: cannot be fetched ({error}).\n{by_hand()}") from error


def by_hand() -> str:
    """Return the commands that fetch the repository on another machine."""
    clone = f"git clone https://github.com/{REPOSITORY} d1 && git -C d1 checkout {COMMIT}"
    here = 'python src/fetch_data.py --address "file://$PWD/d1"'
    lead = "On a machine with network access, run the first command; then, with d1/ here, the second:"
    return "\n  ".join([lead, clone, here])


def sha256(content: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    run_step(main)
