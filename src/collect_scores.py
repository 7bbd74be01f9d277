"""Average sample files into one row for each run, sampler and length.

python src/collect_scores.py results/laptop/runs/*/*/*/*/samples-papers.parquet --scores main.csv
"""

import argparse
from pathlib import Path

import pandas as pd

from unmask.files import run_step, writing
from unmask.scores import collect


def main() -> None:
    """Write the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path, nargs="+")
    parser.add_argument("--scores", type=Path, required=True)
    args = parser.parse_args()
    columns = [
        "method",
        "task",
        "variant",
        "seed",
        "sampler",
        "length",
        "published",
        "strict",
        "nfe",
        "tokens",
        "seconds",
    ]
    scores = collect([pd.read_parquet(file, columns=columns) for file in args.samples])
    with writing(args.scores) as temporary:
        scores.to_csv(temporary, index=False)


if __name__ == "__main__":
    run_step(main)
