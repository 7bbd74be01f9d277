"""How far the runs of a grid are: done, running, queued or to do, read from their folders and from SLURM's queue.

Torch-free and read-only, so it can be asked at any time, also while the workflow runs.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask import lock
from unmask.files import InputError
from unmask.manifest import read_manifest
from unmask.provenance import differing
from unmask.spec import Run

STATES = ("done", "stale", "running", "queued", "stopped", "to do")
RECENT = 50  # updates whose mean time says how long the others will take


@dataclass(frozen=True)
class Job:
    """A job of ours in SLURM's queue."""

    number: str
    state: str  # RUNNING, PENDING, …
    comment: str  # which rule and wildcards, as the workflow's SLURM plugin writes it


@dataclass(frozen=True)
class Standing:
    """How far one run is; one of STATES."""

    run: str
    state: str
    step: int  # updates done, as far as the disk knows
    updates: int
    seconds: float  # spent in them
    left: float | None = None  # seconds still to go, for a running one
    note: str = ""
    processes: int | None = None  # that did them together, as the manifest says


def standing(run: Run, folder: Path, jobs: list[Job], source: dict[str, str]) -> Standing:
    """How far a run is. `folder` holds it, `jobs` are submitted for it, `source` has the hashes of its code today."""
    updates = run.training["buffers"] * run.training["updates_per_buffer"]
    path = folder / "manifest.json"
    try:
        manifest = read_manifest(path) if path.exists() else {}
    except InputError as error:
        return Standing(run.name, "stale", 0, updates, 0.0, note=str(error))
    holder = _living_holder(folder)
    if manifest.get("spec") == run.digest and (folder / "adapter").exists() and not holder:
        changed = changed_code(manifest["source"], source)
        note = f"made by other code ({changed}); to make it again, delete its adapter" if changed else ""
        state = "stale" if changed else "done"
        spent, processes = manifest["seconds_training"], manifest.get("processes")
        return Standing(run.name, state, updates, updates, spent, note=note, processes=processes)
    step, metrics, age = _checkpoint(folder, run.digest)
    seconds = [row["seconds"] for row in metrics]
    left = None
    if holder and seconds:
        left = max(0.0, statistics.mean(seconds[-RECENT:]) * (updates - step) - age)
    state = _state(holder, jobs, step)
    note = twins(holder, jobs) or (holder and lock.holder_name(holder)) or ", ".join(f"job {j.number}" for j in jobs)
    if state == "to do" and manifest:
        changed = "; ".join(differing(manifest.get("settings", {}), run.values()))
        note = f"made with other settings: {changed}" if "settings" in manifest else "made with other settings"
    return Standing(run.name, state, step, updates, sum(seconds), left, note)


def changed_code(old: Any, new: dict[str, str]) -> str:
    """The files of a run's code that are not as they were when it was made, or no longer needed; empty if all are."""
    if not isinstance(old, dict):
        return "an older version's"
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")


def twins(holder: str, jobs: list[Job]) -> str:
    """What to cancel if several jobs were submitted for one run: all but the one that holds its lock, or the first."""
    if len(jobs) < 2:
        return ""
    at_work = lock.describe(holder).get("job")
    first = min(jobs, key=lambda job: (job.number != at_work, job.state != "RUNNING", int(job.number)))
    return f"job {first.number} is at it; twins: scancel {' '.join(j.number for j in jobs if j is not first)}"


def totals(standings: list[Standing]) -> str:
    """One line: how many runs are in which state, and the hours."""
    counts = Counter(one.state for one in standings)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    spent = sum(one.seconds for one in standings) / 3600
    line = f"{len(standings)} runs: {states or 'none'}; {spent:.2f} hours of updates done"
    left = [one.left for one in standings if one.left is not None]
    return f"{line}, {sum(left) / 3600:.2f} left in the running ones" if left else line


def slurm_jobs(folder: Path) -> list[Job]:
    """Our jobs in SLURM's queue that were submitted from `folder`; none where there is no SLURM."""
    if not shutil.which("squeue"):
        return []
    command = ["squeue", "--me", "--noheader", "--format=%i|%T|%Z|%k"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        print(f"squeue does not answer, so nothing is said about the queue: {reason}", file=sys.stderr)
        return []
    rows = [line.split("|", 3) for line in asked.stdout.splitlines()]
    return [Job(number, state, comment) for number, state, where, comment in rows if Path(where) == folder.resolve()]


def jobs_of(run: str, scale: str, jobs: Iterable[Job]) -> list[Job]:
    """The jobs that train a run."""
    comment = f"rule_train_policy_wildcards_{scale}_{run.replace('/', '_')}"
    return [job for job in jobs if job.comment == comment]


def _state(holder: str, jobs: list[Job], step: int) -> str:
    if holder:
        return "running"
    if jobs:
        return "queued"
    return "stopped" if step else "to do"


def _living_holder(folder: Path) -> str:
    """What the lock says, if it has moved within a minute by this machine's clock; this only informs, nobody acts."""
    try:
        age = time.time() - (folder / lock.NAME).stat().st_mtime
    except FileNotFoundError:
        return ""
    return (lock.read(folder / lock.NAME) or "") if age < lock.DEAD else ""


def _checkpoint(folder: Path, digest: str) -> tuple[int, list[dict[str, Any]], float]:
    """Step, metrics and age in seconds of the newest checkpoint of these settings; 0 and nothing if there is none."""
    for path in sorted(folder.glob("checkpoints/step-*/state.json"), reverse=True):
        state = _json(path)
        if {"step", "metrics"} <= state.keys() and str(state.get("identity")).startswith(f"{digest}-"):
            return state["step"], state["metrics"], time.time() - path.stat().st_mtime
    return 0, [], 0.0


def _json(path: Path) -> dict[str, Any]:
    """A file's content; empty if it is not there, torn, or just being replaced."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
