"""Score generations, ours or others', by the papers' protocol or a strict one, or compute their training reward.

    python src/score_generations.py --task gsm8k --protocol published generations.json [more files …]
    python src/score_generations.py --task sudoku --protocol strict --by method,length results/…/samples-papers.parquet
    python src/score_generations.py --task countdown --reward released:d1 --samples generations.json

Prints one JSON object for all files and, with --by, one more per group. `accuracy` is in per cent; for Sudoku the
protocol `published` counts blank cells, not boards. With --reward the object has the mean training reward and the means
of its parts. docs/method/scoring.md describes the protocols, the rewards and the accepted file formats.
"""

import argparse
import io
import json
import signal
import sys
from pathlib import Path

from unmask.common.errors import run_step
from unmask.evaluation import rewards
from unmask.evaluation.rewards import REWARDS, Rewarded
from unmask.scoring.gold_answers import TASKS
from unmask.scoring.score_files import PROTOCOLS, Scored, score, summaries, summary

MOST_NAMED = 50  # broken records listed by place


def main() -> None:
    """Print the score or the reward.

    Exits with 1 if a file cannot be read, or if a record is broken and --lenient is not given.
    """
    args = parse_arguments()
    by = tuple(args.by.split(",")) if args.by else ()

    # Exit quietly under `| head`, and escape what cannot be encoded: a model may emit half of a surrogate pair.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if args.reward:
        print_rewards(args, by)
    else:
        print_verdicts(args, by)


def print_verdicts(args: argparse.Namespace, by: tuple[str, ...]) -> None:
    """Print the accuracy under a protocol, by group with --by and by record with --samples."""
    # Broken records come first: without --lenient they end the program before a misleading accuracy is printed.
    scored = score(args.task, args.protocol, args.files, args.prompt, by)
    broken = [(record.place, record.verdict.note) for record in scored if record.broken]
    report_broken(broken, args.lenient)
    report_differences([record for record in scored if record.stored is not None])

    print(json.dumps(summary(args.task, args.protocol, scored)))
    if by:
        for group in summaries(args.task, args.protocol, scored):
            print(json.dumps(group, default=str))
    if args.samples:
        print_table(scored)


def print_rewards(args: argparse.Namespace, by: tuple[str, ...]) -> None:
    """Print the mean reward and, with --samples, one tab-separated line per record: place, reward, parts."""
    records: list[Rewarded] = rewards.reward(args.task, args.reward, args.files, args.prompt, by)
    broken = [(record.place, record.note) for record in records if record.broken]
    report_broken(broken, args.lenient)

    print(json.dumps(rewards.summary(args.task, args.reward, records)))
    if by:
        for group in rewards.summaries(args.task, args.reward, records):
            print(json.dumps(group, default=str))
    if args.samples:
        for record in records:
            # Rounded, because sums of decimal parts carry floating-point noise.
            parts = {name: round(value, 9) for name, value in record.parts.items()}
            print(record.place, round(record.total, 9), json.dumps(parts), sep="\t")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; exactly one of --protocol and --reward is required."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="parquet, JSON or JSON lines")
    parser.add_argument("--task", choices=TASKS, required=True)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--protocol", choices=PROTOCOLS, help="grade answers as right or wrong")
    how.add_argument("--reward", choices=REWARDS, help="compute a training reward: ours, or one of a released code")
    parser.add_argument("--by", metavar="KEY,…", help="also score each group; record keys, column names or `file`")
    parser.add_argument("--samples", action="store_true", help="also print one line per record")
    parser.add_argument("--lenient", action="store_true", help="count broken records as wrong, with reward 0")
    parser.add_argument(
        "--prompt",
        choices=["chat", "terse"],
        help="prompt style of the task (default: from spec.yaml next to our samples, else chat)",
    )
    return parser.parse_args()


def report_broken(broken: list[tuple[str, str]], lenient: bool) -> None:
    """List broken records and their errors on stderr; exit with 1 unless `lenient`."""
    for place, note in broken[:MOST_NAMED]:
        print(f"{place}: {note}", file=sys.stderr)
    if len(broken) > MOST_NAMED:
        print(f"and {len(broken) - MOST_NAMED} more", file=sys.stderr)
    if broken and not lenient:
        sys.exit(f"{len(broken)} broken records; fix them, or pass --lenient to count them as wrong")


def report_differences(stored: list[Scored]) -> None:
    """Warn if our own samples got other verdicts when they were written."""
    differ = sum(one.stored != one.verdict.share for one in stored)
    if differ:
        print(
            f"{differ} of {len(stored)} verdicts are not those stored with the samples: the scoring rules have changed "
            "since, or the prompt style was different (set --prompt)",
            file=sys.stderr,
        )


def print_table(scored: list[Scored]) -> None:
    """Print one tab-separated line per record; answers are JSON strings of at most 80 characters before quoting."""
    print("place", "correct", "total", "answer", "note", sep="\t")
    for record in scored:
        verdict = record.verdict
        answer = ""
        if verdict.answer is not None:
            answer = json.dumps(verdict.answer[-80:], ensure_ascii=False)
        print(record.place, verdict.correct, verdict.total, answer, verdict.note, sep="\t")


if __name__ == "__main__":
    run_step(main)
