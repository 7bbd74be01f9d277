"""Write the metrics of finished runs as TensorBoard logs: a folder for each run, with the names of the runs.

python src/export_tensorboard.py results/laptop tensorboard
tensorboard --logdir tensorboard

Needs `pip install -e '.[tensorboard]'`. Existing logs of the same runs are replaced.
"""

import argparse
import datetime
from pathlib import Path

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step
from unmask.common.manifest import read_manifest
from unmask.common.parquet import read_csv
from unmask.training.trackers import EVENTS, Row, accelerate_state, check_trackers, event_writer, log_rows

NEEDED = {"step", "seconds"}


def main() -> None:
    """Export every finished run below a folder. Raises InputError if there is none or a file cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a scale, such as results/laptop")
    parser.add_argument("folder", type=Path, help="where the logs are written")
    args = parser.parse_args()
    check_trackers(["tensorboard"])

    runs = args.results / "runs"
    finished = sorted(file.parent for file in runs.rglob("manifest.json") if (file.parent / "metrics.csv").is_file())
    if not finished:
        raise InputError(f"{runs}: no finished run (metrics.csv and manifest.json); name the folder of a scale")
    # Every target is looked at before the first one is replaced.
    targets = {run: args.folder / run.relative_to(runs) for run in finished}
    for target in targets.values():
        check_target(target)
    with accelerate_state():
        for run, target in targets.items():
            rows = read_rows(run / "metrics.csv")
            finish = datetime.datetime.fromisoformat(read_manifest(run / "manifest.json")["finished"])
            with atomic_write(target) as temporary:
                temporary.mkdir()
                tracker = event_writer(temporary)
                log_rows(tracker, rows, finish.timestamp())
                tracker.finish()
            print(f"{target}: {len(rows)} updates")


def check_target(folder: Path) -> None:
    """Raise InputError if a folder that would be replaced has more than logs, as that of a run."""
    others = set(folder.iterdir()) - set(folder.glob(EVENTS)) if folder.is_dir() else set()
    if others:
        raise InputError(f"{folder}: has {min(others).name}, which is no TensorBoard log; choose another folder")


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a metrics.csv. Raises InputError if a column is missing."""
    metrics = read_csv(file)
    missing = sorted(NEEDED - set(metrics))
    if missing:
        raise InputError(f"{file}: no column {', '.join(missing)}. Delete it and run snakemake again.")
    return metrics.to_dict("records")


if __name__ == "__main__":
    run_step(main)
