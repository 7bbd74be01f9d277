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
    """Return the finished runs whose specs have old names of settings, so that they would be trained again."""
    old = re.compile(rf"^  ({'|'.join([*RENAMED, *TO_RUNTIME])}):", re.MULTILINE)  # a key of the block `training`
    found = []
    for name in sorted(runs):
        folder = Path("results", grid.place, "runs", name)
        spec = folder / "spec.yaml"
        if (folder / "manifest.json").exists() and spec.exists() and old.search(spec.read_text(encoding="utf-8")):
            found.append(name)
    return found


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
