"""Print status, estimated cost and duplicate SLURM jobs for every run of the given experiments.

python src/show_plan.py "$(cat config.json)" --experiments main methods
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tabulate import tabulate

from unmask.common.errors import InputError, run_step
from unmask.common.provenance import STEP, code_of
from unmask.config.blame import by_file
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid
from unmask.config.overrides import COMMAND_LINE, add_option, with_overrides
from unmask.planning.estimates import Estimate, estimates, shape
from unmask.planning.memory_fit import EVALUATION, misfits
from unmask.planning.outlook import days, disk, jobs_to_go
from unmask.planning.status import RunStatus, jobs_of, slurm_jobs, standing, totals


def main() -> None:
    """Print one line per run, then totals; raises InputError if a run does not fit into GPU memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads, help="the workflow's configuration as JSON")
    parser.add_argument("--experiments", nargs="*", required=True)
    add_option(parser)
    args = parser.parse_args()
    args.config, given = with_overrides(args.config, args.set)
    try:
        grid = expand(args.config)
    except ConfigError as error:
        raise InputError(by_file(error.lines, args.config, [(COMMAND_LINE, given)])) from error
    evaluations = evaluations_of(grid, args.experiments)
    found = statuses(grid, evaluations)
    costs = estimates(grid, evaluations, found)
    samples: list[str] = []
    for experiment in args.experiments:
        samples += grid.samples(experiment)
    rows = [line(grid, costs[name], found.get(name), samples) for name in evaluations]
    print_table(rows, grid)

    # Days and other fidelities' prices are given for GPU scales only; on a CPU the whole scale takes an hour or so.
    print(totals(list(found.values())))
    print(hours_in_all(list(costs.values()), unit_of(grid)))
    if grid.cost.gpu_memory:
        print(days(list(costs.values()), grid))
        for fidelity in sorted(args.config["fidelities"].keys() - {args.config["fidelity"]}):
            print(price(args.config | {"fidelity": fidelity}, args.experiments))
    print(jobs_to_go(grid, evaluations, found))
    print(disk(grid, evaluations))
    assumed = [row for row in rows if any(cell.startswith("~") for cell in row)]
    if assumed:
        print(f"~: at the throughput assumed in scales.{grid.scale}.cost; without it, scaled from finished runs")

    # Last, so that the plan is printed even if a run is refused.
    refuse_what_does_not_fit(grid, evaluations)


def statuses(grid: Grid, names: Iterable[str]) -> dict[str, RunStatus]:
    """Return the status of each run that trains, on disk and in SLURM's queue."""
    jobs = slurm_jobs(Path())
    root = Path("results", grid.place, "runs")
    wanted = set(names)
    found = {}
    for name, run in grid.runs.items():
        if name in wanted and run.trains:
            # Runs are "stale" if their own code has changed since they were trained.
            source = code_of(STEP, run.algorithm, run.task)
            own_jobs = jobs_of(name, grid.place, jobs)
            found[name] = standing(run, root / name, own_jobs, source)
    return found


def print_table(rows: list[list[str]], grid: Grid) -> None:
    """Print the rows of all runs below their heads."""
    hours = f"{unit_of(grid)}-h"
    heads = [
        "run",
        "state",
        "update",
        "time left",
        "evaluated",
        "train GB",
        hours,
        "evaluate GB",
        hours,
        f"spent {hours}",
        "",
    ]
    align = None
    if rows:
        align = ("left", "left", *["right"] * 8, "left")
    print(tabulate(rows, heads, disable_numparse=True, colalign=align))


def unit_of(grid: Grid) -> str:
    """Return whose hours are counted."""
    return "GPU" if grid.cost.gpu_memory else "CPU"


def evaluations_of(grid: Grid, experiments: list[str]) -> dict[str, list[str]]:
    """Return evaluation names by run, for all runs of the experiments and the runs they start from, starts first."""
    found: dict[str, list[str]] = {}
    for experiment in experiments:
        for name in grid.experiments[experiment].runs:
            start = grid.runs[name].start_from
            if start:
                found.setdefault(start, [])
            known = found.setdefault(name, [])
            known += [one for one in _evaluations(grid, experiment, name) if one not in known]
    return found


def _evaluations(grid: Grid, experiment: str, run: str) -> list[str]:
    """Return the evaluations of a run in an experiment; none if it is a diagnosis."""
    # Evaluations on other tasks count too: transfers, and every evaluation after training on a corpus.
    one = grid.experiments[experiment]
    transfers = [f"{one.evaluation_stem}-on-{task}" for task in one.transfers.get(run, [])]
    names = []
    for stem in dict.fromkeys(grid.measured(experiment, run) + transfers):
        name = stem.removeprefix("samples-")
        if name in grid.evaluations:
            names.append(name)
    return names


def line(grid: Grid, cost: Estimate, one: RunStatus | None, samples: list[str]) -> list[str]:
    """Return a row of the table; `one` is None for a base model, which is not trained."""
    files = [Path(path) for path in samples if f"/runs/{cost.run}/" in path]
    evaluated = sum(file.exists() for file in files)
    digits = 1 if grid.cost.gpu_memory else 3  # laptop runs take hundredths of an hour

    # Empty for a base model, except for its state.
    state = "done" if evaluated == len(files) else "to do"
    note = update = left = training_memory = training_hours = ""
    if one:
        state = one.state
        note = one.note
        update = f"{one.step}/{one.updates}"
        training_memory = peak(cost.memory, False, digits)
        training_hours = number(cost.training, cost.training_measured, digits)
        if one.left is not None:
            left = f"{one.left / 60:.1f} min"
    return [
        cost.run,
        state,
        update,
        left,
        f"{evaluated}/{len(files)}",
        training_memory,
        training_hours,
        peak(cost.memory, True, digits),
        number(cost.evaluation, cost.evaluation_measured, digits),
        f"{cost.spent:.{digits}f}",
        note,
    ]


def peak(memory: dict[str, float], evaluating: bool, digits: int) -> str:
    """Return the peak memory [GB] over the phases of training, or of evaluation if `evaluating`; "?" if unknown."""
    if not memory:
        return "?"
    sizes = [size for phase, size in memory.items() if phase.startswith(EVALUATION) == evaluating]
    if not sizes:
        return ""
    return f"{max(sizes):.{digits}f}"


def number(value: float | None, measured: bool, digits: int) -> str:
    """Format hours, marked with ~ if they rest on the assumed throughput; "?" if unknown."""
    if value is None:
        return "?"
    mark = "" if measured else "~"
    return f"{mark}{value:.{digits}f}"


def hours_in_all(costs: list[Estimate], unit: str) -> str:
    """Return a line with total, spent and remaining hours; runs of unknown cost are counted separately."""
    whole = 0.0
    spent = 0.0
    left = 0.0
    unknown = 0
    for cost in costs:
        whole += (cost.training or 0) + (cost.evaluation or 0)
        spent += cost.spent
        left += cost.to_go
        unknown += cost.training is None or cost.evaluation is None

    said = f"{unit}-hours: about {whole:.1f} in all, {spent:.1f} spent, about {left:.1f} to go"
    if unknown:
        said += f"; {unknown} runs left out, whose model or test set is not known yet"
    return said


def price(config: dict[str, Any], experiments: list[str]) -> str:
    """Return a line with the cost of the same experiments at another fidelity, with nothing done yet."""
    option = f"with --config fidelity={config['fidelity']}"
    # Another fidelity may contradict the experiments' grids; that must not hide the plan of this one.
    try:
        grid = expand(config)
    except ConfigError:
        return f"{option}: cannot be planned; a dry run with this option says why"
    costs = estimates(grid, evaluations_of(grid, experiments), {})
    hours = 0.0
    for cost in costs.values():
        hours += (cost.training or 0) + (cost.evaluation or 0)
    return f"{option}: about {hours:.0f} GPU-hours in all, with nothing done yet"


def refuse_what_does_not_fit(grid: Grid, evaluations: dict[str, list[str]]) -> None:
    """Raise InputError with the settings to change if a run needs more memory than a GPU has."""
    # Seeds and variants fail for the same reason: report each reason once, with the number of other runs.
    refused: defaultdict[str, list[str]] = defaultdict(list)
    for name, names in evaluations.items():
        known = shape(grid, name)
        if known is None:
            continue
        specs = [grid.evaluations[evaluation] for evaluation in names]
        for reason in misfits(grid, grid.runs[name], known, specs):
            refused[reason].append(name)

    lines = []
    for reason, (first, *others) in refused.items():
        more = f" and {len(others)} more" if others else ""
        lines.append(f"{first}{more}: {reason}")
    if lines:
        raise InputError("\n".join(lines))


if __name__ == "__main__":
    run_step(main)
