"""Upload a run's adapter with its model card to the Hugging Face hub; without --push, only show what would be uploaded.

python src/push_adapter.py results/llada-8b/runs/dmpo/gsm8k/default/seed-0 --repo owner/name
HF_TOKEN=… python src/push_adapter.py results/llada-8b/runs/dmpo/gsm8k/default/seed-0 --repo owner/name --push

An export (src/export_adapter.py) can be named instead of a run. A new repository is private unless --public is given.
"""

import argparse
import tempfile
from pathlib import Path

from unmask.common.checksums import SUMS, sealed
from unmask.common.errors import run_step
from unmask.training.hub_upload import Hub, stage
from unmask.training.model_card import CARD

SHOWN = 24  # lines of the card


def main() -> None:
    """Check and show the files, and upload them if asked to. Raises InputError if that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a finished run, or an export")
    parser.add_argument("--repo", required=True, help="owner/name on the hub")
    parser.add_argument("--push", action="store_true", help="upload; needs HF_TOKEN in the environment")
    parser.add_argument("--public", action="store_true", help="everybody may see a repository that is created")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / "upload"
        changes = stage(args.folder, args.repo, staged)
        show(staged, changes, args.repo, "public" if args.public else "private")
        if not args.push:
            print("\nDry run: nothing was sent. Add --push to upload.")
            return
        print(f"\nuploaded: {Hub.from_environment().push(staged, args.repo, private=not args.public)}")


def show(staged: Path, changes: list[str], repository: str, visibility: str) -> None:
    """Print the files with their sizes and hashes, what was changed in them, and the card's first lines."""
    print(f"{repository}, {visibility}:")
    hashes = sealed(staged) | {SUMS: ""}
    for name, digest in hashes.items():
        print(f"  {(staged / name).stat().st_size:>13,} bytes  {name}  {digest[:12]}")
    print("changed for the hub:")
    for line in changes:
        print(f"  {line}")
    print(f"{CARD}:")
    for line in (staged / CARD).read_text(encoding="utf-8").splitlines()[:SHOWN]:
        print(f"  | {line}")


if __name__ == "__main__":
    run_step(main)
