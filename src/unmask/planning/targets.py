"""Snakemake targets: the runs, datasets and base models they need, and suggestions for unknown names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from unmask.config.grid.grid import Grid

WANTED, EVERYTHING = ("claims.md", "report.html"), ("all_claims.md", "all_report.html")


@dataclass
class Asked:
    """Names of what some targets need, including the base models and datasets of their runs."""

    runs: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)


def asked(grid: Grid, targets: Iterable[str]) -> Asked:
    """Collect everything the targets need. Targets without such needs, such as `plan` or a spec, add nothing."""
    found = Asked()
    for target in targets:
        for experiment in _experiments(grid, target):
            one = grid.experiments[experiment]
            found.runs |= set(one.runs)
            found.tasks |= {task for tasks in one.transfers.values() for task in tasks}
        _add_files_of(grid, target, found)

    # One step is enough: a run that another starts from is no continuation itself.
    starts = {grid.runs[run].start_from for run in found.runs}
    found.runs |= {start for start in starts if start}
    for run in found.runs:
        found.tasks.add(grid.runs[run].task)
        found.models.add(grid.runs[run].model)
    # A base model trained from scratch needs the training data of every task that it learns.
    for model in found.models:
        found.tasks |= set(grid.models[model].tasks)
    return found


def unknown_targets(grid: Grid, targets: Iterable[str], rules: Iterable[str]) -> list[str]:
    """Return a line for each target that no rule makes, with the closest existing name."""
    lines = []
    names = sorted(set(rules))
    for target in targets:
        kind, rest = _place(grid, target)
        # Existing files are valid targets of snakemake even if no rule makes them.
        if os.path.lexists(target):
            continue
        if "/" not in target and "." not in target and target not in names:
            known = [*grid.experiments, "all", "everything", "plan", "exact_toy"]
            lines.append(f"{target}: no such target{_near(target, [*known, *names])}; `snakemake --list` shows all")
        elif kind == "runs" and _named(rest, grid.runs) is None:
            where = "/".join(rest.split("/")[:4])
            lines.append(f"{target}: scale {grid.scale} has no run {where}{_near(where, grid.runs)}")
        elif target.startswith("results/") and not kind:
            how = "choose the profile, or `--config scale=… fidelity=…`, of the file"
            lines.append(f"{target}: this scale and fidelity write to results/{grid.place}; {how}")
    return lines


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _place(grid: Grid, target: str) -> tuple[str, str]:
    """Split a path below this scale's results into kind and rest; both empty for any other target."""
    path = Path(target)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    root = Path("results", grid.place)
    if not path.is_relative_to(root) or path == root:
        return "", ""
    kind, *rest = path.relative_to(root).parts
    return kind, "/".join(rest)


def _experiments(grid: Grid, target: str) -> list[str]:
    """Return the experiments that a target collects or shows."""
    kind, rest = _place(grid, target)
    if target == "all" or kind in WANTED:
        return grid.wanted
    if target == "everything" or kind in EVERYTHING:
        return grid.everything
    # Folders (figures/main/…) and files (tables/main.md, tables/main-comparisons.csv) begin with the experiment's name.
    shown = rest.partition("/")[0].partition(".")[0] if kind in ("tables", "figures", "scores", "metrics") else target
    return [name for name in (shown, shown.removesuffix("-comparisons")) if name in grid.experiments][:1]


def _add_files_of(grid: Grid, target: str, found: Asked) -> None:
    """Add what a single file of a run, dataset or base model needs."""
    kind, rest = _place(grid, target)
    # Specs are written from the configuration alone.
    if rest.endswith("/spec.yaml"):
        return
    if kind == "runs" and (run := _named(rest, grid.runs)):
        found.runs.add(run)
        evaluation = rest.removeprefix(f"{run}/samples-").removesuffix(".parquet")
        if evaluation in grid.evaluations and (task := grid.evaluations[evaluation].task):
            found.tasks.add(task)
    elif kind == "data" and (task := _named(rest, grid.datasets)):
        found.tasks.add(task)
    elif kind == "models" and (model := _named(rest, grid.models)):
        found.models.add(model)


def _named(rest: str, names: Iterable[str]) -> str | None:
    """Return the name that a path begins with; None if there is none."""
    return next((name for name in names if f"{rest}/".startswith(f"{name}/")), None)
