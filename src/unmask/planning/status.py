"""Progress of the runs of a grid: done, running, queued or to do, read from their folders and from SLURM's queue.

Torch-free and read-only, so that it works at any time, also while the workflow runs.
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

from unmask.common import lock
from unmask.common.errors import InputError
from unmask.common.manifest import Manifest, read_manifest
from unmask.common.provenance import CHECKPOINT_FORMAT, differing
from unmask.config.specs import RunSpec

STATES = ("done", "stale", "running", "queued", "stopped", "to do")
SHOWN = 3  # changed files named in a note
RECENT = 50  # updates whose mean time predicts that of the remaining ones


@dataclass(frozen=True)
class Job:
    """Job of this user in SLURM's queue."""

    number: str
    state: str  # RUNNING, PENDING, …
    comment: str  # rule and wildcards, as Snakemake's SLURM plugin writes them


@dataclass(frozen=True)
class RunStatus:
    """Progress of one run."""

    run: str
    state: str  # one of STATES
    step: int  # updates done, by the newest checkpoint
    updates: int
    seconds: float  # spent in the updates done
    left: float | None = None  # estimated seconds to the end, of a running run
    note: str = ""
    processes: int | None = None  # that trained it together, by its manifest


def standing(
    run: RunSpec,
    folder: Path,
    jobs: list[Job],
    source: dict[str, str],
) -> RunStatus:
    """Return the progress of a run in `folder`, given its submitted `jobs` and the hashes of its code, `source`."""
    updates = run.training.buffers * run.training.updates_per_buffer
    path = folder / "manifest.json"
    try:
        manifest = read_manifest(path) if path.exists() else {}
    except InputError as error:
        return RunStatus(run.name, "stale", 0, updates, 0.0, note=str(error))

    # A held lock means that the run is still being written, even if an adapter and its manifest are there.
    holder = living_holder(folder)
    is_current = manifest.get("spec") == run.digest
    if is_current and (folder / "adapter").exists() and not holder:
        return _finished(run.name, updates, manifest, source)

    # Updates since the newest checkpoint are not on disk; its age is taken as the time spent on them.
    step, seconds, age = _checkpoint(folder, run.digest)
    left = None
    if holder and seconds:
        pace = statistics.mean(seconds[-RECENT:])
        left = max(0.0, pace * (updates - step) - age)

    state = _state(holder, jobs, step)
    note = _who(holder, jobs)
    if state == "to do" and manifest:
        note = "made with other settings"
        if "settings" in manifest:
            differences = differing(manifest["settings"], run.values())
            note += f": {'; '.join(differences)}"
    return RunStatus(
        run=run.name,
        state=state,
        step=step,
        updates=updates,
        seconds=sum(seconds),
        left=left,
        note=note,
    )


def _finished(
    name: str,
    updates: int,
    manifest: Manifest,
    source: dict[str, str],
) -> RunStatus:
    """Return the status of a finished run: stale if other code made it."""
    state = "done"
    note = ""
    changed = changed_code(manifest["source"], source)
    if changed:
        state = "stale"
        note = f"made by different code ({changed}); delete its adapter to rerun it"
    return RunStatus(
        run=name,
        state=state,
        step=updates,
        updates=updates,
        seconds=manifest["seconds_training"],
        note=note,
        processes=manifest.get("processes"),
    )


def _who(holder: str, jobs: list[Job]) -> str:
    """Return the most urgent note: duplicates to cancel, then who works on the run, then the jobs that wait for it."""
    duplicates = duplicate_jobs(holder, jobs)
    if duplicates:
        return duplicates
    if holder:
        return lock.holder_name(holder)
    return ", ".join(f"job {job.number}" for job in jobs)


def changed_code(old: Any, new: dict[str, str]) -> str:
    """Name the files of a run's code that have changed, appeared or gone since it was made; "" if none has."""
    # Manifests of older versions have one hash for all of the code.
    if not isinstance(old, dict):
        return "an older version"
    files = sorted(old.keys() | new.keys())
    names = [name for name in files if old.get(name) != new.get(name)]
    said = ", ".join(names[:SHOWN])
    if len(names) > SHOWN:
        said += f" and {len(names) - SHOWN} more"
    return said


def duplicate_jobs(holder: str, jobs: list[Job]) -> str:
    """Say which jobs to cancel if several were submitted for one run; "" if there is at most one.

    The job that holds the run's lock stays, else a running one, else the oldest.
    """
    if len(jobs) < 2:
        return ""
    at_work = lock.describe(holder).get("job")

    def urgency(job: Job) -> tuple[bool, bool, int]:
        return job.number != at_work, job.state != "RUNNING", int(job.number)

    first = min(jobs, key=urgency)
    others = [job.number for job in jobs if job is not first]
    return f"keep job {first.number}, cancel duplicates: scancel {' '.join(others)}"


def totals(standings: list[RunStatus]) -> str:
    """Summarise the states of all runs and their hours in one line."""
    counts = Counter(status.state for status in standings)
    states = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    listed = ", ".join(states) or "none"
    hours = sum(status.seconds for status in standings) / 3600
    said = f"{len(standings)} runs: {listed}; {hours:.2f} hours of updates done"

    left = [status.left for status in standings if status.left is not None]
    if left:
        said += f", {sum(left) / 3600:.2f} left in the running ones"
    return said


def slurm_jobs(folder: Path) -> list[Job]:
    """Return this user's jobs in SLURM's queue that were submitted from `folder`; none without SLURM."""
    if not shutil.which("squeue"):
        return []
    command = ["squeue", "--me", "--noheader", "--format=%i|%T|%Z|%k"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    # The rest of the plan is still useful if the controller is down: warn, do not fail.
    if asked.returncode != 0:
        reasons = asked.stderr.strip().splitlines() or ["no reason given"]
        print(f"squeue failed, so the state of the queue is unknown: {reasons[-1]}", file=sys.stderr)
        return []

    jobs = []
    for line in asked.stdout.splitlines():
        number, state, place, comment = line.split("|", 3)
        if Path(place) == folder.resolve():
            jobs.append(Job(number, state, comment))
    return jobs


def jobs_of(run: str, scale: str, jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs that train a run."""
    # The plugin joins rule and wildcards by "_", and replaces the slashes of a run's name.
    comment = f"rule_train_policy_wildcards_{scale}_{run.replace('/', '_')}"
    return [job for job in jobs if job.comment == comment]


def _state(holder: str, jobs: list[Job], step: int) -> str:
    if holder:
        return "running"
    if jobs:
        return "queued"
    if step:
        return "stopped"
    return "to do"


def living_holder(folder: Path) -> str:
    """Return the content of a run's lock if its holder has shown life within `lock.DEAD` seconds, else ""."""
    path = folder / lock.NAME
    # By this machine's clock, which may differ from the holder's: good enough to inform, never to take a lock.
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return ""
    if age >= lock.DEAD:
        return ""
    return lock.read(path) or ""


def _checkpoint(folder: Path, digest: str) -> tuple[int, list[float], float]:
    """Return step, seconds of each update and age in seconds of the newest checkpoint; (0, [], 0.0) without one."""
    # The identity starts with the digest of the spec: checkpoints of other settings do not count, nor do those that
    # training would refuse because older code wrote them.
    for path in sorted(folder.glob("checkpoints/step-*/state.json"), reverse=True):
        state = _json(path)
        same_settings = str(state.get("identity")).startswith(f"{digest}-")
        same_code = state.get("format") == CHECKPOINT_FORMAT
        if same_settings and same_code and {"step", "metrics"} <= state.keys():
            seconds = [row["seconds"] for row in state["metrics"]]
            age = time.time() - path.stat().st_mtime
            return state["step"], seconds, age
    return 0, [], 0.0


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; {} if it is missing, torn, or just being replaced."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return content
