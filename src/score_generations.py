"""Score generations that were made elsewhere, by the papers' protocol or by a careful reader's.

    python src/score_generations.py --task gsm8k --protocol published generations.json [more files …]

Prints one JSON object; `accuracy` is in per cent, and for Sudoku under `published` cells are counted. docs/scoring.md
describes the protocols and the files that are understood.
"""

import argparse
import json
import sys
from pathlib import Path

from unmask.scoring.generations import PROTOCOLS, TASKS, Scored, score, summary


def main() -> int:
    """Print the score; 1 if a record is broken and --lenient is not given, or a file cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="parquet, JSON or JSON lines")
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--protocol", choices=PROTOCOLS, required=True)
    parser.add_argument("--samples", action="store_true", help="also print a table of the single verdicts")
    parser.add_argument("--lenient", action="store_true", help="count broken records as wrong instead of stopping")
    args = parser.parse_args()
    try:
        scored = score(args.task, args.protocol, args.files)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    broken = [one for one in scored if one.broken]
    for one in broken:
        print(f"{one.place}: {one.verdict.note}", file=sys.stderr)
    if broken and not args.lenient:
        print(f"{len(broken)} broken records; correct them or count them as wrong with --lenient", file=sys.stderr)
        return 1
    print(json.dumps(summary(args.task, args.protocol, scored)))
    if args.samples:
        print_table(scored)
    return 0


def print_table(scored: list[Scored]) -> None:
    """One tab-separated line a record; answers are quoted as JSON and shortened."""
    print("place", "correct", "total", "answer", "note", sep="\t")
    for one in scored:
        verdict = one.verdict
        answer = "" if verdict.answer is None else json.dumps(verdict.answer[-80:], ensure_ascii=False)
        print(one.place, verdict.correct, verdict.total, answer, verdict.note, sep="\t")


if __name__ == "__main__":
    sys.exit(main())
