"""Render the table of released checkpoints in Markdown, LaTeX and CSV.

python src/render_checkpoints.py …/countdown/samples.parquet … --checkpoints '[{"name": "espo-countdown", …}, …]'
    --md released_checkpoints.md --tex released_checkpoints.tex --csv released_checkpoints.csv
"""

import argparse
import json
from pathlib import Path

from unmask.analysis.released_checkpoints import Described, texts
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.parquet import read_rows

COLUMNS = ["method", "task", "variant", "seed", "sampler", "length", "example", "published", "points", "strict",
           "nfe", "tokens", "seconds"]  # fmt: skip


def main() -> None:
    """Write the table in all three formats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path, nargs="+")
    parser.add_argument("--checkpoints", type=json.loads, required=True, help="one description per file of samples")
    parser.add_argument("--md", type=Path, required=True)
    parser.add_argument("--tex", type=Path, required=True)
    parser.add_argument("--csv", type=Path, required=True)
    args = parser.parse_args()

    described = [Described.of(values) for values in args.checkpoints]
    found = texts([read_rows(file, COLUMNS) for file in args.samples], described)
    for suffix, path in {".md": args.md, ".tex": args.tex, ".csv": args.csv}.items():
        with atomic_write(path) as temporary:
            temporary.write_text(found[suffix], encoding="utf-8")
    print(found[".md"])


if __name__ == "__main__":
    run_step(main)
