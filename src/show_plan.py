"""Print status, estimated cost and duplicate SLURM jobs for every run of the given experiments.

python src/show_plan.py "$(cat config.json)" --experiments main methods
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from unmask.common.errors import InputError, run_step
from unmask.common.provenance import STEP, code_of
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid
from unmask.planning.estimates import Estimate, estimates, shape
from unmask.planning.memory_fit import EVALUATION, misfits
from unmask.planning.outlook import days, disk, jobs_to_go
from unmask.planning.status import RunStatus, jobs_of, slurm_jobs, standing, totals


def main() -> None:
    """Print one line per run, then totals; raises InputError if a run does not fit into GPU memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads, help="the workflow's configuration as JSON")
    parser.add_argument("--experiments", nargs="*", required=True)
    args = parser.parse_args()

    # State on disk and in SLURM's queue. Runs are "stale" if their own code has changed since they were trained.
    grid = expand(args.config)
    evaluations = evaluations_of(grid, args.experiments)
    jobs, root = slurm_jobs(Path()), Path("results", grid.place, "runs")
    found = {
        name: standing(run, root / name, jobs_of(name, grid.place, jobs), code_of(STEP, run.algorithm, run.task))
        for name, run in grid.runs.items()
        if name in evaluations and run.trains
    }

    costs = estimates(grid, evaluations, found)
    samples = [path for experiment in args.experiments for path in grid.samples(experiment)]
    rows = [line(grid, costs[name], found.get(name), samples) for name in evaluations]
    unit = "GPU" if grid.cost.gpu_memory else "CPU"
    heads = ["run", "state", "update", "time left", "evaluated", "train GB", f"{unit}-h", "evaluate GB", f"{unit}-h"]
    heads += [f"spent {unit}-h", ""]
    align = ("left", "left", *["right"] * 8, "left")
    print(tabulate(rows, heads, disable_numparse=True, colalign=align if rows else None))

    # Days and other fidelities' prices are given for GPU scales only; on a CPU the whole scale takes an hour or so.
    print(totals(list(found.values())))
    print(hours_in_all(list(costs.values()), unit))
    if grid.cost.gpu_memory:
        print(days(list(costs.values()), grid))
        for fidelity in sorted(args.config["fidelities"].keys() - {args.config["fidelity"]}):
            print(price(args.config | {"fidelity": fidelity}, args.experiments))
    print(jobs_to_go(grid, evaluations, found))
    print(disk(grid, evaluations))
    if any(cell.startswith("~") for row in rows for cell in row):
        print(f"~: at the throughput assumed in scales.{grid.scale}.cost; without it, scaled from finished runs")

    # Last, so that the plan is printed even if a run is refused.
    refuse_what_does_not_fit(grid, evaluations)


def evaluations_of(grid: Grid, experiments: list[str]) -> dict[str, list[str]]:
    """Return evaluation names by run, for all runs of the experiments and the runs they start from, starts first."""
    found: dict[str, list[str]] = {}
    for experiment, one in ((name, grid.experiments[name]) for name in experiments):
        for run in (grid.runs[name] for name in one.runs):
            if run.start_from:
                found.setdefault(run.start_from, [])
            mine = found.setdefault(run.name, [])

            # Evaluations on other tasks count too: transfers, and every evaluation after training on a corpus.
            carried = [f"{one.evaluation_stem}-on-{task}" for task in one.transfers.get(run.name, [])]
            names = [n.removeprefix("samples-") for n in dict.fromkeys(grid.measured(experiment, run.name) + carried)]
            mine += [name for name in names if name in grid.evaluations and name not in mine]
    return found


def line(grid: Grid, cost: Estimate, one: RunStatus | None, samples: list[str]) -> list[str]:
    """Return a row of the table; `one` is None for a base model, which is not trained."""
    mine = [Path(path) for path in samples if f"/runs/{cost.run}/" in path]
    evaluated = sum(path.exists() for path in mine)
    digits = 1 if grid.cost.gpu_memory else 3  # laptop runs take hundredths of an hour
    state = one.state if one else ("done" if evaluated == len(mine) else "to do")
    return [
        cost.run,
        state,
        f"{one.step}/{one.updates}" if one else "",
        "" if one is None or one.left is None else f"{one.left / 60:.1f} min",
        f"{evaluated}/{len(mine)}",
        peak(cost.memory, False, digits) if one else "",
        number(cost.training, cost.training_measured, digits) if one else "",
        peak(cost.memory, True, digits),
        number(cost.evaluation, cost.evaluation_measured, digits),
        f"{cost.spent:.{digits}f}",
        one.note if one else "",
    ]


def peak(memory: dict[str, float], evaluating: bool, digits: int) -> str:
    """Return the peak memory [GB] over the phases of training, or of evaluation if `evaluating`; "?" if unknown."""
    mine = [value for phase, value in memory.items() if phase.startswith(EVALUATION) == evaluating]
    return f"{max(mine):.{digits}f}" if mine else "" if memory else "?"


def number(value: float | None, measured: bool, digits: int) -> str:
    """Format hours, marked with ~ if they rest on the assumed throughput; "?" if unknown."""
    return "?" if value is None else f"{'' if measured else '~'}{value:.{digits}f}"


def hours_in_all(costs: list[Estimate], unit: str) -> str:
    """Return a line with total, spent and remaining hours; runs of unknown cost are counted separately."""
    whole = sum((one.training or 0) + (one.evaluation or 0) for one in costs)
    spent, left = sum(one.spent for one in costs), sum(one.to_go for one in costs)
    unknown = sum(one.training is None or one.evaluation is None for one in costs)
    said = f"{unit}-hours: about {whole:.1f} in all, {spent:.1f} spent, about {left:.1f} to go"
    return f"{said}; {unknown} runs left out, whose model or test set is not known yet" if unknown else said


def price(config: dict[str, Any], experiments: list[str]) -> str:
    """Return a line with the cost of the same experiments at another fidelity, with nothing done yet."""
    # Another fidelity may contradict the experiments' grids; that must not hide the plan of this one.
    try:
        grid = expand(config)
    except ConfigError:
        return f"with --config fidelity={config['fidelity']}: cannot be planned; a dry run with this option says why"
    costs = estimates(grid, evaluations_of(grid, experiments), {})
    hours = sum((one.training or 0) + (one.evaluation or 0) for one in costs.values())
    return f"with --config fidelity={config['fidelity']}: about {hours:.0f} GPU-hours in all, with nothing done yet"


def refuse_what_does_not_fit(grid: Grid, evaluations: dict[str, list[str]]) -> None:
    """Raise InputError with the settings to change if a run needs more memory than a GPU has."""
    # Seeds and variants fail for the same reason: report each reason once, with the number of other runs.
    alike: dict[str, list[str]] = {}
    for name, names in evaluations.items():
        known, specs = shape(grid, name), [grid.evaluations[e] for e in names]
        for reason in misfits(grid, grid.runs[name], known, specs) if known else ():
            alike.setdefault(reason, []).append(name)
    if alike:
        others = {reason: f" and {len(names) - 1} more" if names[1:] else "" for reason, names in alike.items()}
        raise InputError("\n".join(f"{names[0]}{others[reason]}: {reason}" for reason, names in alike.items()))


if __name__ == "__main__":
    run_step(main)
