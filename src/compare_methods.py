"""Compare an experiment's methods with paired tests on the same test problems, and by how fast they learn.

python src/compare_methods.py results/laptop/runs/*/*/*/*/samples-papers.parquet --md main-comparisons.md --csv …
"""

import argparse
from pathlib import Path

import pandas as pd

from unmask.analysis import collapses, comparisons, learning_speed, selection
from unmask.analysis.scores import read_metrics
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.parquet import read_rows


def main() -> None:
    """Write comparisons, learning speed, collapsed runs and chosen checkpoints as Markdown, comparisons as CSV too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("samples", type=Path, nargs="+")
    parser.add_argument(
        "--metrics", type=Path, nargs="*", default=[], help="of the trained runs, for learning speed and collapses"
    )
    parser.add_argument("--title", required=True)
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--csv", type=Path, required=True)
    args = parser.parse_args()

    frames = [read_rows(file, [*comparisons.COLUMNS, *selection.GRADES]) for file in args.samples]
    samples = pd.concat(frames, ignore_index=True)
    compared = comparisons.compare(samples)
    said = comparisons.markdown(args.title, compared, samples)
    if args.metrics:
        metrics = pd.concat([read_metrics(file) for file in args.metrics], ignore_index=True)
        # Moments of one training are validated at their end only: they have no speed.
        speed = "" if selection.has_moments(metrics) else learning_speed.markdown(metrics)
        sections = [speed, collapses.markdown(metrics), selection.markdown(samples, metrics)]
        said = "\n".join(filter(None, [said, *sections]))
    texts = {
        args.md: said,
        args.csv: compared.to_csv(index=False),
    }
    for path, text in texts.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_step(main)
