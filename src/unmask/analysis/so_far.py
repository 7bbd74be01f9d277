"""Partial results of an experiment: the files of finished runs, and the runs that are missing. Torch-free."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from unmask.common.catalogue import task_name
from unmask.common.errors import InputError
from unmask.common.manifest import made_of, read_manifest
from unmask.config.grid.grid import Grid
from unmask.config.specs import RunSpec
from unmask.methods import method_name

Policy = tuple[str, str, str]  # method, task and variant


@dataclass
class Found:
    """Files of finished runs, each with the run as evaluated; runs that are missing or outdated."""

    planned: list[RunSpec] = field(default_factory=list)
    samples: dict[Path, RunSpec] = field(default_factory=dict)
    metrics: dict[Path, RunSpec] = field(default_factory=dict)
    missing: list[RunSpec] = field(default_factory=list)
    outdated: list[RunSpec] = field(default_factory=list)  # made with other settings than the current ones

    def read(
        self,
        files: dict[Path, RunSpec],
        reader: Callable[[Path], pd.DataFrame],
    ) -> pd.DataFrame:
        """Concatenate the rows of the files, with a column `planned`: the seeds planned for their policy."""
        seeds = Counter(map(_policy, self.planned))
        frames = []
        for path, run in files.items():
            planned = seeds[_policy(run)]
            frames.append(reader(path).assign(planned=planned))
        if not frames:
            return pd.DataFrame()
        return pd.concat(frames, ignore_index=True)

    def __str__(self) -> str:
        """Return the note at the top of a table."""
        done, planned = len(self.samples), len(self.planned)
        if done == planned:
            return f"Complete: all {done} evaluations are done."

        said = [f"So far {done} of {planned} evaluations are done; cells with fewer seeds than planned say so."]
        seeds = {run.seed for run in self.planned}
        if self.missing:
            policies = _by_policy(self.missing, len(seeds))
            said.append(f"Missing: {'; '.join(policies)}.")
        if self.outdated:
            policies = _by_policy(self.outdated, len(seeds))
            said.append(f"Left out, made with other settings: {'; '.join(policies)}.")
        return " ".join(said)


def find(grid: Grid, experiment: str) -> Found:
    """Find the results of an experiment; the workflow may be running meanwhile."""
    found = Found()
    for path in map(Path, grid.samples(experiment)):
        run = _run_of(grid, path)
        kind, _, name = path.stem.partition("-")
        if kind == "samples":
            evaluated = run.for_evaluation(grid.evaluations[name])
            digest = grid.evaluated(run.name, name)
        else:
            evaluated = run
            digest = grid.diagnosed(run.name, name)
        found.planned.append(evaluated)

        # Existence is not enough: samples count only if the run and the evaluation have today's settings.
        if not path.exists():
            found.missing.append(evaluated)
            continue
        manifest = path.with_suffix(".json")
        if _made_with(run, path.parent) and made_of(manifest) == digest:
            found.samples[path] = evaluated
        else:
            found.outdated.append(evaluated)

    # Training curves do not depend on evaluations: the run's own manifest decides.
    for path in map(Path, grid.metrics(experiment)):
        run = _run_of(grid, path)
        if path.exists() and _made_with(run, path.parent):
            found.metrics[path] = run
    return found


def _run_of(grid: Grid, path: Path) -> RunSpec:
    """Return the run that a file belongs to."""
    _, _, name = path.parent.as_posix().partition("/runs/")
    return grid.runs[name]


def _made_with(run: RunSpec, folder: Path) -> bool:
    """Return True if a folder holds a finished run with these settings; the base model has only a spec, no manifest."""
    try:
        if run.trains:
            made = read_manifest(folder / "manifest.json")["spec"]
        else:
            made = RunSpec.read(folder / "spec.yaml").digest
    except InputError:
        return False
    return bool(made == run.digest)


def _policy(run: RunSpec) -> Policy:
    return run.method, run.task, run.variant


def _by_policy(runs: Iterable[RunSpec], seeds: int) -> list[str]:
    """Describe the runs of each policy, as in `DMPO on Sudoku, seeds 1, 2`; seeds only if some are left out."""
    found: defaultdict[Policy, list[str]] = defaultdict(list)
    for run in runs:
        found[_policy(run)].append(str(run.seed))

    said = []
    for (method, task, variant), own in found.items():
        policy = f"{method_name(method, variant)} on {task_name(task)}"
        if len(own) != seeds:
            plural = "s" if len(own) > 1 else ""
            policy += f", seed{plural} {', '.join(own)}"
        said.append(policy)
    return said
