"""Join the training metrics of an experiment's runs, labelled with method, task, variant and seed.

python src/collect_metrics.py results/laptop/runs/*/*/*/*/metrics.csv --out results/laptop/metrics/main.csv
"""

import argparse
from pathlib import Path

import pandas as pd

from unmask.analysis.scores import read_metrics
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step


def main() -> None:
    """Write one table; columns that a method does not log are empty in its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    frames = [read_metrics(file) for file in args.metrics]
    joined = pd.concat(frames, ignore_index=True)
    # Only figures need `settings` (a JSON string per row), and they read the runs' own files.
    joined = joined.drop(columns="settings")
    with atomic_write(args.out) as temporary:
        joined.to_csv(temporary, index=False)


if __name__ == "__main__":
    run_step(main)
