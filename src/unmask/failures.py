"""What is said when some jobs of the workflow have failed: which, why, where their logs are, and what was not tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from tabulate import tabulate

from unmask.files import REFUSED

WIDTH = 72  # characters of a log's last line


class Job(Protocol):
    """What is needed of one of Snakemake's jobs."""

    name: str
    wildcards_dict: dict[str, str]
    log: Iterable[str]


def table(failed: Iterable[Job], left: Iterable[Job]) -> str:
    """The failed jobs with the last line and the path of their logs, and how many others were not tried."""
    rows = []
    for job in sorted(failed, key=lambda job: (job.name, sorted(job.wildcards_dict.items()))):
        logs = [str(log) for log in job.log]
        rows.append([job.name, subject(job), last_line(logs), logs[0] if logs else "none"])
    counts = Counter(job.name for job in left)
    heads = ["failed", "of", "last line of its log", "log"]
    lines = ["", tabulate(rows, heads, disable_numparse=True) if rows else "No job has failed; the workflow was ended."]
    if counts:
        said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        lines.append(f"Not tried, because they need one of these or the workflow was ended: {said}.")
    lines.append("Correct what the logs say and start the same command again: what is done is kept.")
    return "\n".join(lines)


def subject(job: Job) -> str:
    """What a job worked on: its wildcards but for the scale."""
    return " ".join(value for key, value in job.wildcards_dict.items() if key != "scale")


def last_line(logs: list[str]) -> str:
    """Of the first log that has any: the line in which a step refused its input, else the last one."""
    for log in logs:
        try:
            text = Path(log).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        said = lines[: lines.index(REFUSED)] if REFUSED in lines else lines  # torchrun has more to say after it
        if said:
            return said[-1] if len(said[-1]) <= WIDTH else f"{said[-1][: WIDTH - 1]}…"
    return "its log is empty; see logs/slurm"
