"""Protection of expensive finished runs: retraining them with changed settings needs explicit consent."""

from __future__ import annotations

import re
from pathlib import Path

from unmask.common.errors import InputError
from unmask.common.manifest import Manifest, read_manifest, seconds_of
from unmask.common.provenance import differing
from unmask.config.grid.grid import Grid
from unmask.config.renames import RENAMED, TO_RUNTIME
from unmask.config.specs import RunSpec

SHOWN = 3  # differing settings named in a message
OLD_KEY = re.compile(rf"^  ({'|'.join([*RENAMED, *TO_RUNTIME])}):", re.MULTILINE)


def endangered(grid: Grid, runs: set[str], above: float) -> list[str]:
    """Return a line per finished run of more than `above` GPU-hours that would be retrained with other settings."""
    lines = []
    for name in sorted(runs):
        run = grid.runs[name]
        if not run.trains:
            continue
        manifest = Path("results", grid.place, "runs", name, "manifest.json")
        why = lost(manifest, run, above)
        if why:
            lines.append(f"{name}: {why}")
    return lines


def unmigrated(grid: Grid, runs: set[str]) -> list[str]:
    """Return a line on finished runs and one on unfinished ones whose specs have old names: both would start again."""
    finished, unfinished = [], []
    for name in sorted(runs):
        folder = Path("results", grid.place, "runs", name)
        if not _has_old_names(folder / "spec.yaml"):
            continue
        if (folder / "manifest.json").exists():
            finished.append(name)
        elif any(folder.glob("checkpoints/step-*")):
            unfinished.append(name)

    lines = []
    if finished:
        lines.append(
            f"{_first_of(finished)}: finished before settings were renamed. Run `python src/migrate_results.py "
            f"results/{grid.place}` (CHANGELOG.md, Upgrade); to train them again, delete their folders or add "
            "`--config overwrite=true`"
        )
    if unfinished:
        lines.append(
            f"{_first_of(unfinished)}: begun before settings were renamed, with checkpoints that only the old version "
            "resumes from. Finish with the old version; to start again, delete the folder checkpoints/ of each run or "
            "add `--config overwrite=true`"
        )
    return lines


def _has_old_names(spec: Path) -> bool:
    """Return True if the block `training` of a run's spec has a key that was renamed or moved."""
    # Not parsed, because there are hundreds. A damaged file is named by the migration, so here its text is enough.
    try:
        text = spec.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    training = re.search(r"^training:\n((?:  .*\n)*)", text, re.MULTILINE)
    return bool(training and OLD_KEY.search(training[1]))


def _first_of(names: list[str]) -> str:
    """Return the first name and the number of others."""
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


def lost(manifest: Path, run: RunSpec, above: float) -> str:
    """Describe what retraining a run would overwrite: GPU-hours and differing settings; empty if at most `above`."""
    if not manifest.exists():
        return ""
    try:
        made = read_manifest(manifest)
    except InputError as error:
        # With a damaged manifest the cost is unknown: an existing adapter is protected unless the limit is infinite.
        finished = (manifest.parent / "adapter").exists()
        if not finished or above == float("inf"):
            return ""
        return f"finished, but its GPU-hours cannot be read ({error})"
    hours = gpu_hours(made)
    if made.get("spec") == run.digest or hours <= above:
        return ""

    found = differing(made.get("settings", {}), run.values())
    said = "; ".join(found[:SHOWN])
    if len(found) > SHOWN:
        said += f" and {len(found) - SHOWN} more"
    return f"finished after {hours:.1f} GPU-hours with other settings ({said})"


def gpu_hours(manifest: Manifest) -> float:
    """Return the GPU-hours of a finished training run, summed over its processes."""
    processes: int = manifest.get("processes", 1)
    return seconds_of(manifest) * processes / 3600
