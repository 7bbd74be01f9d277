"""Average sample files into one row per run, sampler and length.

python src/collect_scores.py results/laptop/runs/*/*/*/*/samples-papers.parquet --scores main.csv
"""

import argparse
from pathlib import Path

import pandas as pd

from unmask.analysis import diversity
from unmask.analysis.scores import HACK, RUN, SAMPLE, collect
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.parquet import read_rows, schema


def main() -> None:
    """Write the scores as CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path, nargs="+")
    parser.add_argument("--steps", action="store_true", help="the files are diagnoses: join them without averaging")
    parser.add_argument("--scores", type=Path, required=True)
    args = parser.parse_args()

    if args.steps:
        scores = pd.concat([read_rows(file) for file in args.samples], ignore_index=True)
    else:
        # Columns that are not averaged, above all the generated text, are not read.
        scores = collect([_samples(file) for file in args.samples])
    with atomic_write(args.scores) as temporary:
        scores.to_csv(temporary, index=False)


def _samples(file: Path) -> pd.DataFrame:
    """Read what scores need of a file of samples, and what diversity needs if problems have several."""
    columns = [*RUN, *SAMPLE]
    if "sample" in schema(file):
        columns += diversity.SAMPLED
    return read_rows(file, columns, optional=[HACK, diversity.SOLUTION])


if __name__ == "__main__":
    run_step(main)
