"""Join the training metrics of an experiment's runs, with the names of what was trained.

python src/collect_metrics.py results/laptop/runs/*/*/*/*/metrics.csv --out results/laptop/metrics/main.csv
"""

import argparse
from pathlib import Path

import pandas as pd

from unmask.files import run_step, writing
from unmask.scores import read_metrics


def main() -> None:
    """Write one table; a column that a method does not log is empty in its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metrics", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    joined = pd.concat([read_metrics(file) for file in args.metrics], ignore_index=True).drop(columns="settings")
    with writing(args.out) as temporary:
        joined.to_csv(temporary, index=False)


if __name__ == "__main__":
    run_step(main)
