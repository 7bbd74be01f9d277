"""Snakemake targets: the runs, datasets and base models they need, and suggestions for unknown names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from unmask.config.grid.checkpoints import in_catalogue
from unmask.config.grid.grid import Grid

WANTED = ("claims.md", "report.html")
EVERYTHING = ("all_claims.md", "all_report.html")
FIELD = ("field_claims", "field_claims.md", "field_claims.csv")  # of experiments that are named in a resource
SHOWN = ("tables", "figures", "scores", "metrics")  # folders of files that are named after experiments
OTHERS = ("exact_toy", "released_checkpoints")  # names there that are no experiments; nor are those of sweeps
SUMMARIES = ("all", "everything", "tune", "so_far")  # targets of several experiments that need all test problems


@dataclass
class Asked:
    """Names of what some targets need, including the base models and datasets of their runs."""

    runs: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    checkpoints: set[str] = field(default_factory=set)
    tests: set[str] = field(default_factory=set)  # tasks of which only the test data are needed


def asked(grid: Grid, targets: Iterable[str]) -> Asked:
    """Collect everything the targets need. Targets without such needs, such as `plan` or a spec, add nothing."""
    found = Asked()
    for target in targets:
        for name in _experiments(grid, target):
            experiment = grid.experiments[name]
            found.runs.update(experiment.runs)
            found.tasks.update(*experiment.transfers.values())
        _add_files_of(grid, target, found)
        for name in tuned_by(grid, target):
            found.runs.update(*(candidate.runs for candidate in grid.tuning[name]))
        for name in checkpoints_of(grid, target):
            found.checkpoints.add(name)
            found.tests.update(grid.checkpoints[name].tasks)
            found.models.add(grid.checkpoints[name].spec.model)

    # One step is enough: a run that another starts from is no continuation itself.
    for name in list(found.runs):
        start = grid.runs[name].start_from
        if start:
            found.runs.add(start)
    for name in found.runs:
        found.tasks.add(grid.runs[name].task)
        found.models.add(grid.runs[name].model)

    # A base model trained from scratch needs the training data of every task that it learns.
    for model in found.models:
        found.tasks.update(grid.models[model].tasks)
    return found


def tuned_by(grid: Grid, target: str) -> list[str]:
    """Return the METHOD/TASK of a target that compares candidates: `tune`, or `tune_NAME` for a sweep of that name."""
    kind, _, sweep = target.partition("_")
    return grid.sweeps.get(sweep, []) if kind == "tune" else []


def unknown_targets(grid: Grid, targets: Iterable[str], rules: Iterable[str]) -> list[str]:
    """Return a line for each target that no rule makes, with the closest existing name."""
    rule_names = sorted(set(rules))
    lines = []
    for target in targets:
        # Existing files are valid targets of snakemake even if no rule makes them.
        if not os.path.lexists(target):
            why = _unknown(grid, target, rule_names)
            if why:
                lines.append(f"{target}: {why}")
    return lines


def unlimited(grid: Grid, targets: Iterable[str]) -> list[str]:
    """Return a line for each target that a limit cannot apply to: claims, the report, released checkpoints."""
    lines = []
    for target in targets if grid.ending else ():
        kind, _ = _place(grid, target)
        whole = target in (*SUMMARIES, *FIELD) or target.startswith(("so_far_", "tune_"))
        if whole or kind in (*WANTED, *EVERYTHING, *FIELD):
            lines.append(f"{target}: needs all test problems; remove the limit, or name an experiment, such as main")
        elif checkpoints_of(grid, target):
            how = "remove the limit, or use `src/evaluate_checkpoint.py --examples`"
            lines.append(f"{target}: released checkpoints are evaluated on all test problems; {how}")
    return lines


def _unknown(grid: Grid, target: str, rules: list[str]) -> str:
    """Return why no rule makes a target, with the closest existing name; "" if one may."""
    kind, rest = _place(grid, target)
    is_name = "/" not in target and "." not in target
    if is_name and target not in rules:
        named = [name.removesuffix(grid.ending) for name in grid.experiments]
        known = [*named, "all", "everything", "plan", "exact_toy", "surrogates", *rules]
        return f"no such target{_near(target, known)}; `snakemake --list` shows all"
    if kind == "runs" and _named(rest, grid.runs) is None:
        run = "/".join(rest.split("/")[:4])
        return f"scale {grid.scale} has no run {run}{_near(run, grid.runs)}"
    if kind in SHOWN:
        name = rest.partition("/")[0].rpartition(".")[0] or rest.partition("/")[0]
        name = name.removesuffix("-comparisons")
        tunings = [f"tuning-{sweep}".rstrip("-") for sweep in grid.sweeps]
        known = [*grid.experiments, *OTHERS, *tunings]
        if grid.ending and f"{name}{grid.ending}" in known:
            return f"is of all test problems; with this limit it is {name}{grid.ending}"
        if name not in known:
            return f"there is no experiment {name}{_near(name, known)}"
    folder, _, name = target.partition("/")
    if folder == "checkpoints" and name and name not in grid.checkpoints:
        return f"scale {grid.scale} evaluates no checkpoint {name}{_near(name, grid.checkpoints)}"
    if target.startswith("results/") and not kind:
        how = "choose the profile, or `--config scale=… fidelity=…`, of the file"
        return f"this scale and fidelity write to results/{grid.place}; {how}"
    return ""


def checkpoints_of(grid: Grid, target: str) -> list[str]:
    """Return the released checkpoints that a target needs: `checkpoints`, `checkpoints/NAME`, or a file of theirs."""
    kind, rest = _place(grid, target)
    if target == "checkpoints" or (kind == "tables" and rest.startswith("released_checkpoints.")):
        return in_catalogue(grid)
    if not kind:
        kind, _, rest = target.partition("/")
    name = _named(rest, grid.checkpoints)
    return [name] if kind == "checkpoints" and name and not rest.endswith("/spec.yaml") else []


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    if not close:
        return ""
    return f"; did you mean {close[0]}?"


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

    shown = target
    # The report on one experiment: the target report_NAME, and the files in reports/NAME.
    if kind == "reports":
        shown, _, _ = rest.partition("/")
    elif target.startswith("report_"):
        shown = target.removeprefix("report_")
    # Folders (figures/main/…) and files (tables/main.md, tables/main-comparisons.csv) begin with the experiment's name.
    if kind in ("tables", "figures", "scores", "metrics"):
        folder, _, _ = rest.partition("/")
        shown, _, _ = folder.partition(".")
    # A limited experiment has the target of the whole one.
    for name in (shown, shown.removesuffix("-comparisons"), f"{shown}{grid.ending}"):
        if name in grid.experiments:
            return [name]
    return []


def _add_files_of(grid: Grid, target: str, found: Asked) -> None:
    """Add what a single file of a run, dataset or base model needs."""
    kind, rest = _place(grid, target)
    # Specs are written from the configuration alone.
    if rest.endswith("/spec.yaml"):
        return
    if kind == "runs":
        run = _named(rest, grid.runs)
        if run:
            found.runs.add(run)
            name = rest.removeprefix(f"{run}/samples-").removesuffix(".parquet")
            evaluation = grid.evaluations.get(name)
            if evaluation and evaluation.task:
                found.tasks.add(evaluation.task)
    if kind == "data":
        task = _named(rest, grid.datasets)
        if task:
            found.tasks.add(task)
    if kind == "models":
        model = _named(rest, grid.models)
        if model:
            found.models.add(model)


def _named(rest: str, names: Iterable[str]) -> str | None:
    """Return the name that a path begins with; None if there is none."""
    for name in names:
        if f"{rest}/".startswith(f"{name}/"):
            return name
    return None
