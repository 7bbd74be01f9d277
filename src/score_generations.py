"""Score generations by the papers' protocol or by a careful reader's, or reward them: those of others, or our samples.

    python src/score_generations.py --task gsm8k --protocol published generations.json [more files …]
    python src/score_generations.py --task sudoku --protocol strict --by method,length results/…/samples-papers.parquet
    python src/score_generations.py --task countdown --reward released:d1 --samples generations.json

Prints one JSON object for all files, and with --by another for each group; `accuracy` is in per cent, and for Sudoku
under `published` cells are counted. With --reward it has the mean training reward and those of its parts.
docs/scoring.md describes the protocols, the rewards and the files that are understood.
"""

import argparse
import io
import json
import signal
import sys
from pathlib import Path

from unmask import rewarded
from unmask.files import run_step
from unmask.rewarded import REWARDS, Rewarded
from unmask.scoring.generations import PROTOCOLS, Scored, score, summaries, summary
from unmask.scoring.golds import TASKS

MOST_NAMED = 50  # broken records


def main() -> None:
    """Print the score; exit with 1 if a record is broken and --lenient is not given, or a file cannot be read."""
    args = parse_arguments()
    by = tuple(args.by.split(",")) if args.by else ()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends this quietly
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a model may write half a character
    if args.reward:
        print_rewards(args, by)
    else:
        print_verdicts(args, by)


def print_verdicts(args: argparse.Namespace, by: tuple[str, ...]) -> None:
    """Print the accuracy by a protocol."""
    scored = score(args.task, args.protocol, args.files, args.prompt, by)
    report_broken([(one.place, one.verdict.note) for one in scored if one.broken], args.lenient)
    report_differences([one for one in scored if one.stored is not None])
    print(json.dumps(summary(args.task, args.protocol, scored)))
    for group in summaries(args.task, args.protocol, scored) if by else ():
        print(json.dumps(group, default=str))
    if args.samples:
        print_table(scored)


def print_rewards(args: argparse.Namespace, by: tuple[str, ...]) -> None:
    """Print the mean reward, and with --samples one tab-separated line a record: place, reward, parts."""
    records: list[Rewarded] = rewarded.reward(args.task, args.reward, args.files, args.prompt, by)
    report_broken([(one.place, one.note) for one in records if one.broken], args.lenient)
    print(json.dumps(rewarded.summary(args.task, args.reward, records)))
    for group in rewarded.summaries(args.task, args.reward, records) if by else ():
        print(json.dumps(group, default=str))
    for one in records if args.samples else ():
        parts = {name: round(value, 9) for name, value in one.parts.items()}
        print(one.place, round(one.total, 9), json.dumps(parts), sep="\t")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="parquet, JSON or JSON lines")
    parser.add_argument("--task", choices=TASKS, required=True)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--protocol", choices=PROTOCOLS, help="whether answers are right")
    how.add_argument("--reward", choices=REWARDS, help="what a training reward pays: ours, or that of a released code")
    parser.add_argument("--by", metavar="KEY,…", help="also score each group; keys of records or columns, or `file`")
    parser.add_argument("--samples", action="store_true", help="also print a line for each record")
    parser.add_argument("--lenient", action="store_true", help="count broken records as wrong, without reward")
    parser.add_argument(
        "--prompt",
        choices=["chat", "terse"],
        help="how the task was posed (default: as the run's spec.yaml beside our samples says, else chat)",
    )
    return parser.parse_args()


def report_broken(broken: list[tuple[str, str]], lenient: bool) -> None:
    """Name the places of broken records and what is wrong; exit with 1 unless told to be lenient."""
    for place, note in broken[:MOST_NAMED]:
        print(f"{place}: {note}", file=sys.stderr)
    if len(broken) > MOST_NAMED:
        print(f"and {len(broken) - MOST_NAMED} more", file=sys.stderr)
    if broken and not lenient:
        sys.exit(f"{len(broken)} broken records; correct them or count them as wrong with --lenient")


def report_differences(stored: list[Scored]) -> None:
    """Say so if our own samples were judged otherwise when they were made."""
    differ = sum(one.stored != one.verdict.share for one in stored)
    if differ:
        print(
            f"{differ} of {len(stored)} verdicts are not those stored with the samples: the rules have changed since, "
            "or the problems were posed otherwise (--prompt)",
            file=sys.stderr,
        )


def print_table(scored: list[Scored]) -> None:
    """One tab-separated line a record; answers are quoted as JSON and shortened."""
    print("place", "correct", "total", "answer", "note", sep="\t")
    for one in scored:
        verdict = one.verdict
        answer = "" if verdict.answer is None else json.dumps(verdict.answer[-80:], ensure_ascii=False)
        print(one.place, verdict.correct, verdict.total, answer, verdict.note, sep="\t")


if __name__ == "__main__":
    run_step(main)
