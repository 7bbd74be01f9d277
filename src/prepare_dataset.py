"""Make or fetch a task's examples and write its three splits.

python src/prepare_dataset.py results/laptop/data/sudoku/spec.yaml results/laptop/data/sudoku
"""

import argparse
import sys
import time
from pathlib import Path

from unmask.data import write_rows
from unmask.files import run_step
from unmask.manifest import write_manifest
from unmask.sources import check_pinned, local_files
from unmask.spec import DataSpec
from unmask.tasks import load


def main() -> None:
    """Write train.parquet, validation.parquet, test.parquet and manifest.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    began = time.monotonic()
    spec = DataSpec.read(args.spec)
    try:
        check_pinned(spec.settings)  # before anything is fetched
        splits = load(spec.task, spec.settings).splits()
    except ValueError as error:
        sys.exit(f"tasks.{spec.task}: {error}")
    files = [args.folder / f"{split}.parquet" for split in splits]
    for file, examples in zip(files, splits.values(), strict=True):
        write_rows(file, examples)
    rows = {split: len(examples) for split, examples in splits.items()}
    inputs = local_files(spec.settings)
    write_manifest(args.folder / "manifest.json", spec, inputs, files, began, rows=rows, settings=spec.settings)
    print(f"{spec.task}: " + ", ".join(f"{n} {split}" for split, n in rows.items()))


if __name__ == "__main__":
    run_step(main)
