"""Generate or fetch a task's training and validation splits, or its test split, as the spec says.

python src/prepare_dataset.py results/laptop/data/sudoku/spec.yaml results/laptop/data/sudoku
python src/prepare_dataset.py results/laptop/data/sudoku/test/spec.yaml results/laptop/data/sudoku
"""

import argparse
import itertools
import time
from pathlib import Path

from unmask.common.atomic import forget
from unmask.common.errors import InputError, TransientError, run_step
from unmask.common.manifest import write_manifest
from unmask.common.parquet import write_rows
from unmask.config.specs import DataSpec
from unmask.tasks import load, load_for_test
from unmask.tasks._sources import check_pinned, local_files, read_from_hub
from unmask.tasks._stored import Splits


def main() -> None:
    """Write one parquet file per split and, last, the manifest: manifest.json, or test/manifest.json.

    Exits with a message naming the task if its settings, sources or prompt files are wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("folder", type=Path, help="folder for the parquet files")
    args = parser.parse_args()

    began = time.monotonic()
    spec = DataSpec.read(args.spec)
    try:
        check_pinned(spec.settings)  # before any download
        task = load_for_test(spec.task, spec) if spec.test else load(spec.task, spec.settings)
        made = task.splits()
    except ValueError as error:
        # A refused input ends the job for good in a workflow; a lost connection may come back, and keeps its retries.
        may_come_back = isinstance(error, TransientError)
        kind = TransientError if may_come_back else InputError
        raise kind(f"tasks.{spec.task}: {error}") from error

    manifest = args.folder / "manifest.json"
    if spec.test:
        manifest = args.folder / "test/manifest.json"
    splits = {split: made[split] for split in spec.splits}

    # Format every prompt once: an example that does not fit its prompt file fails here, before GPU time is spent.
    for example in itertools.chain(*splits.values()):
        task.messages(example)

    notes = made.notes if isinstance(made, Splits) else []
    files = [args.folder / f"{split}.parquet" for split in splits]

    # Remove the old manifest first: if writing fails halfway, none must describe files that have been replaced.
    forget(manifest)
    for file, examples in zip(files, splits.values(), strict=True):
        write_rows(file, examples)

    rows = {split: len(examples) for split, examples in splits.items()}
    write_manifest(
        manifest,
        spec.digest,
        local_files(spec.settings),
        files,
        began,
        rows=rows,
        settings=spec.settings,
        notes=[note.to_json() for note in notes],
        hub=read_from_hub(spec.settings),
    )
    for note in notes:
        print(note)
    counts = ", ".join(f"{count} {split}" for split, count in rows.items())
    print(f"{spec.task}: {counts}")


if __name__ == "__main__":
    run_step(main)
