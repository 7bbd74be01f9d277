"""Finished runs that a change of settings would train again: the expensive ones take an explicit word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unmask.files import InputError
from unmask.grid.work import Grid
from unmask.manifest import read_manifest, seconds_of
from unmask.provenance import differing
from unmask.spec import Run

SHOWN = 3  # settings of a run that differ


def endangered(grid: Grid, runs: set[str], above: float) -> list[str]:
    """A line for each finished run that took more GPU-hours than this and would be trained with other settings."""
    lines = []
    for name in sorted(runs):
        manifest = Path("results", grid.place, "runs", name, "manifest.json")
        if grid.runs[name].trains and (why := lost(manifest, grid.runs[name], above)):
            lines.append(f"{name}: {why}")
    return lines


def lost(manifest: Path, run: Run, above: float) -> str:
    """What training a run would overwrite: GPU-hours and the settings that differ; empty if little or nothing."""
    if not manifest.exists():
        return ""
    try:
        made = read_manifest(manifest)
    except InputError as error:
        finished = (manifest.parent / "adapter").exists() and above < float("inf")
        return f"finished, but how long it took cannot be read ({error})" if finished else ""
    hours = gpu_hours(made)
    if made.get("spec") == run.digest or hours <= above:
        return ""
    found = differing(made.get("settings", {}), run.values())
    more = f" and {len(found) - SHOWN} more" if found[SHOWN:] else ""
    return f"finished after {hours:.1f} GPU-hours with other settings ({'; '.join(found[:SHOWN])}{more})"


def gpu_hours(manifest: dict[str, Any]) -> float:
    """Hours of all GPUs, or processes, of a finished training run."""
    return seconds_of(manifest) * manifest.get("processes", 1) / 3600
