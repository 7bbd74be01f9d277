"""Fetch the test sets of the papers that are on no hub: d1's Countdown puzzles and Sudoku boards, at one commit.

python src/fetch_data.py                  into data/ below the working directory, where config.yaml looks for them
"""

import argparse
import hashlib
import urllib.request
from pathlib import Path

from unmask.files import InputError, run_step, writing

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
    for source, (place, digest) in FILES.items():
        print(f"{place}: {fetch(f'{args.address}/{source}', Path(place), digest)}", flush=True)


def fetch(address: str, path: Path, digest: str) -> str:
    """Bring one file to its place unless it is there; returns what was done. Nothing is ever overwritten."""
    if path.exists():
        if sha256(path.read_bytes()) != digest:
            raise InputError(f"{path}: not the file of {REPOSITORY} at {COMMIT[:7]} (SHA-256 differs); move it away")
        return "already there, SHA-256 checked"
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:  # noqa: S310 (https, or a test's http)
            content = answer.read()
    except (OSError, ValueError) as error:  # no network, a proxy that refuses, 404
        raise InputError(f"{address}: cannot be fetched ({error}).\n{by_hand()}") from error
    if sha256(content) != digest:
        raise InputError(f"{address}: its SHA-256 is {sha256(content)}, not {digest}; nothing is kept.\n{by_hand()}")
    with writing(path) as temporary:
        temporary.write_bytes(content)
    return "fetched, SHA-256 checked"


def by_hand() -> str:
    """Commands for a machine that has a network."""
    copies = [f"mkdir -p {Path(to).parent} && cp d1/{source} {to}" for source, (to, _) in FILES.items()]
    clone = f"git clone https://github.com/{REPOSITORY} d1 && git -C d1 checkout {COMMIT}"
    return "\n  ".join(
        ["Where there is a network, run these, bring data/ here and run this once more:", clone, *copies]
    )


def sha256(content: bytes) -> str:
    """Hash of a file's bytes."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    run_step(main)
