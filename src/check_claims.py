"""Test the papers' claims on the scores and training metrics of a scale.

python src/check_claims.py workflow/resources/claims.yaml results/laptop/scores/main.csv
    --metrics results/laptop/metrics/main.csv --scale laptop --claims claims.md
"""

import argparse
from pathlib import Path

from unmask.claims import check, markdown, read
from unmask.data import read_csv
from unmask.files import run_step, writing


def main() -> None:
    """Write claims.md; claims whose runs have no scores here are counted as not tested."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("resource", type=Path)
    parser.add_argument("scores", type=Path, nargs="+")
    parser.add_argument("--metrics", type=Path, nargs="*", default=[])
    parser.add_argument("--scale", required=True)
    parser.add_argument("--claims", type=Path, required=True)
    args = parser.parse_args()
    scores = {file.stem: read_csv(file) for file in args.scores}
    metrics = {file.stem: read_csv(file) for file in args.metrics}
    found = [check(c, scores.get(c.experiment), metrics.get(c.experiment)) for c in read(args.resource)]
    text = markdown(found, args.scale, list(scores))
    with writing(args.claims) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    run_step(main)
