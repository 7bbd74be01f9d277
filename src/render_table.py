"""Render an experiment's scores as a table in Markdown, LaTeX and CSV.

python src/render_table.py results/laptop/scores/main.csv --question "…" --md main.md --tex main.tex --csv main.csv
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from unmask.analysis import paper_entries, paper_results, tables
from unmask.analysis.decoding_protocol import Protocol
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.parquet import read_csv


def main() -> None:
    """Write the table in all three formats."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--question", required=True)
    parser.add_argument("--rows", choices=("methods", "samplers", "steps"), default="methods")
    parser.add_argument(
        "--published", type=Path, help="papers' numbers to show next to ours; with --papers, --protocol"
    )
    parser.add_argument("--papers", type=Path, help="papers.yaml, which knows how their checkpoints were chosen")
    parser.add_argument("--protocol", type=json.loads, help="evaluation protocol of our samples, as JSON")
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--tex", type=Path, required=True)
    parser.add_argument("--csv", type=Path, required=True)
    args = parser.parse_args()

    # Published accuracies are comparable only under a known protocol; a diagnosis has neither.
    protocol = None
    printed = pd.DataFrame()
    if args.rows != "steps":
        protocol = Protocol(**args.protocol)
        printed = paper_results.read(args.published, paper_entries.read(args.papers))

    scores = read_csv(args.scores)
    texts = tables.texts(
        scores,
        args.scores.stem,
        args.question,
        args.rows,
        printed,
        protocol,
    )
    files = {".md": args.md, ".tex": args.tex, ".csv": args.csv}
    for suffix, path in files.items():
        with atomic_write(path) as temporary:
            temporary.write_text(texts[suffix], encoding="utf-8")
    print(texts[".md"])


if __name__ == "__main__":
    run_step(main)
