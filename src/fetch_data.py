"""Fetch what the papers' scale needs of d1's repository, at one commit: test sets that are on no hub, and prompts.

python src/fetch_data.py                  into data/ below the working directory, where config.yaml looks for them
python src/fetch_data.py --address file:///path/to/d1          from a clone, without a network
"""

import argparse
import functools
import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path

from unmask.files import InputError, run_step, writing
from unmask.released_prompts import PROMPTS, prompt_place

REPOSITORY = "dllm-reasoning/d1"
COMMIT = "837888f22c21a5da91a0af2b0d7b19e81d9b47ec"
# Path in that repository -> where config.yaml (scales.llada-8b.task_settings) has it, and its SHA-256.
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
SECONDS = 30  # of patience with a server


def main() -> None:
    """Fetch what is missing and check all of it. Raises InputError with the commands for a machine with a network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    address = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}"
    parser.add_argument("--address", default=address, help="where the repository's files lie (default: GitHub)")
    args = parser.parse_args()
    for source, (path, digest) in FILES.items():
        print(f"{path}: {provide(Path(path), digest, f'{args.address}/{source}')}", flush=True)
    for (task, use), prompt in PROMPTS.items():
        path, address = prompt_place(task, use), f"{args.address}/{prompt.source}"
        print(f"{path}: {provide(Path(path), prompt.sha256, address, prompt.cut_out)}", flush=True)


def provide(path: Path, digest: str, address: str, cut_out: Callable[[str], str] | None = None) -> str:
    """Bring one file, or a text cut out of it, to its place unless it is there; returns what was done.

    Nothing is ever overwritten.
    """
    if path.exists():
        if sha256(path.read_bytes()) != digest:
            raise InputError(f"{path}: not the file of {REPOSITORY} at {COMMIT[:7]} (SHA-256 differs); move it away")
        return "already there, SHA-256 checked"
    content = fetch(address)
    try:
        content = cut_out(content.decode()).encode() if cut_out else content
    except (ValueError, SyntaxError) as error:
        raise InputError(f"{address}: {error}; nothing is kept.\n{by_hand()}") from error
    if sha256(content) != digest:
        raise InputError(f"{address}: its SHA-256 is {sha256(content)}, not {digest}; nothing is kept.\n{by_hand()}")
    with writing(path) as temporary:
        temporary.write_bytes(content)
    return "fetched, SHA-256 checked"


@functools.cache
def fetch(address: str) -> bytes:
    """The content of a file; once, as several prompts are in one."""
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:  # noqa: S310 (https, a clone, or a test's http)
            return bytes(answer.read())
    except (OSError, ValueError) as error:  # no network, a proxy that refuses, 404
        raise InputError(f"{address}: cannot be fetched ({error}).\n{by_hand()}") from error


def by_hand() -> str:
    """Commands for a machine that has a network."""
    clone = f"git clone https://github.com/{REPOSITORY} d1 && git -C d1 checkout {COMMIT}"
    here = 'python src/fetch_data.py --address "file://$PWD/d1"'
    return "\n  ".join(
        ["Where there is a network, run the first of these; then, with d1/ here, the second:", clone, here]
    )


def sha256(content: bytes) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    run_step(main)
