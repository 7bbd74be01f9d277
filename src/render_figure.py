"""Draw one figure of an experiment as PDF and PNG.

python src/render_figure.py training_curves --scores main.csv --metrics …/metrics.csv … --pdf out.pdf --png out.png
"""

import argparse
import inspect
from pathlib import Path

import pandas as pd

from unmask.analysis.figures import FIGURES
from unmask.analysis.figures.style import save
from unmask.analysis.scores import read_metrics
from unmask.common.errors import run_step
from unmask.common.parquet import read_csv, read_rows


def main() -> None:
    """Draw the figure and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--scores", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, nargs="*", default=[])
    parser.add_argument("--samples", type=Path, nargs="*", default=[])
    parser.add_argument("--pdf", type=Path, required=True)
    parser.add_argument("--png", type=Path, required=True)
    args = parser.parse_args()

    function = FIGURES[args.figure]
    metrics = pd.DataFrame()
    if args.metrics:
        metrics = pd.concat([read_metrics(file) for file in args.metrics])
    inputs = [read_csv(args.scores), metrics]
    # Samples are large; read them only for figures whose function has that parameter.
    if "samples" in inspect.signature(function).parameters:
        samples = [read_rows(file) for file in args.samples]
        inputs.append(pd.concat(samples, ignore_index=True))
    drawn = function(*inputs)
    for path in (args.pdf, args.png):
        save(drawn, path)


if __name__ == "__main__":
    run_step(main)
