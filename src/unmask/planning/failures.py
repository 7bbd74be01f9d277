"""Summary after failed jobs of the workflow: which failed, why, where their logs are, and what was not started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from tabulate import tabulate

from unmask.common.errors import REFUSED

WIDTH = 72  # characters of a log's last line


class Job(Protocol):
    """Attributes used of Snakemake's jobs."""

    name: str
    wildcards_dict: dict[str, str]
    log: Iterable[str]


def table(failed: Iterable[Job], left: Iterable[Job]) -> str:
    """Render the failed jobs, each with its log and the last line of it, and count the jobs that were not started."""
    rows = []
    for job in sorted(failed, key=lambda job: (job.name, sorted(job.wildcards_dict.items()))):
        logs = [str(log) for log in job.log]
        first, *_ = logs or ["none"]
        rows.append([job.name, subject(job), last_line(logs), first])

    said = "No job failed; the workflow was stopped."
    if rows:
        said = tabulate(rows, ["failed", "of", "last line of its log", "log"], disable_numparse=True)
    lines = ["", said]
    counts = Counter(job.name for job in left)
    if counts:
        jobs = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        lines.append(f"Not started, because they need a failed job or the workflow was stopped: {jobs}.")
    lines.append("Fix what the logs report and run the same command again; finished work is kept.")
    return "\n".join(lines)


def subject(job: Job) -> str:
    """Return the wildcards of a job except its scale: what it worked on."""
    return " ".join(value for key, value in job.wildcards_dict.items() if key != "scale")


def last_line(logs: list[str]) -> str:
    """Return the line in which a step refused its input, else the last line, of the first log that has any."""
    for log in logs:
        try:
            text = Path(log).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # The reason is the line before REFUSED; torchrun adds its own report after it.
        if REFUSED in lines:
            lines = lines[: lines.index(REFUSED)]
        if lines:
            return shortened(lines[-1])
    # SLURM writes its own log of a job that was killed before its step could write.
    return "its log is empty; see logs/slurm"


def shortened(line: str) -> str:
    """Return a line, cut to the width of its column."""
    if len(line) <= WIDTH:
        return line
    return f"{line[: WIDTH - 1]}…"
