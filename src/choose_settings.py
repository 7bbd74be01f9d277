"""Score the candidates of a method on a task by validation accuracy during training, and choose the best.

python src/choose_settings.py dmpo/sudoku '[{"learning_rate": 3e-4}]' results/laptop/runs/…/metrics.csv --runs DIGEST \
    --out x.yaml
"""

import argparse
import json
from pathlib import Path

from unmask.analysis.tuning import Choice, Scored, score, text
from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step


def main() -> None:
    """Write all candidates with their scores, and the choice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="METHOD/TASK")
    parser.add_argument("candidates", type=json.loads, help="settings of each candidate, as a JSON list")
    parser.add_argument("metrics", type=Path, nargs="+", help="of each candidate's runs, candidate by candidate")
    parser.add_argument(
        "--runs", required=True, help="digest of the settings of all runs, from which a stale choice is told"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    seeds, rest = divmod(len(args.metrics), len(args.candidates))
    if rest:
        raise InputError(f"{len(args.metrics)} metrics files for {len(args.candidates)} candidates; give each as many")
    scored = []
    for place, settings in enumerate(args.candidates):
        files = args.metrics[place * seeds : (place + 1) * seeds]
        scored.append(Scored(settings, {_seed(file): score(file) for file in files}))

    method, task = args.name.split("/")
    choice = Choice(method, task, scored, args.runs)
    with atomic_write(args.out) as temporary:
        choice.write(temporary)
    for one in scored:
        mark = " <- chosen" if one is choice.chosen else ""
        print(f"{args.name}: {text(one.settings)}: validation {100 * one.score:.1f} %{mark}")


def _seed(metrics: Path) -> int:
    """Return the seed of a run from its folder, `seed-1000`."""
    return int(metrics.parent.name.removeprefix("seed-"))


if __name__ == "__main__":
    run_step(main)
