"""Export our samples as result files of the lm-evaluation-harness, for its viewers and comparisons.

python src/export_samples.py results/laptop/runs/dmpo/sudoku/default/seed-0/samples-papers.parquet --model dmpo-sudoku
    --out results/harness
"""

import argparse
import datetime
from pathlib import Path

from unmask.common.errors import InputError, run_step
from unmask.common.parquet import read_rows
from unmask.evaluation.harness_files import export


def main() -> None:
    """Write the files of one policy and print their paths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--model", required=True, help="name of the policy in the files")
    parser.add_argument("--method", help="rows to export, for samples of a released checkpoint and its base model")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    rows = read_rows(args.samples)
    if args.method:
        rows = rows[rows["method"] == args.method]
        if rows.empty:
            raise InputError(f"--method: {args.samples} has no rows of {args.method!r}")
    # The harness's stamp: an ISO time without colons, which some file systems refuse.
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
    try:
        files = export(rows, args.out, args.model, stamp)
    except ValueError as error:
        raise InputError(f"{args.samples}: {error} with --method") from error
    for file in files:
        print(file)


if __name__ == "__main__":
    run_step(main)
