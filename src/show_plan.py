"""Say of every run of some experiments how far it is, what it needs and has taken, and what to cancel.

python src/show_plan.py "$(cat config.json)" --experiments main methods
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

from unmask.budget import Estimate, estimates, shape
from unmask.files import InputError, run_step
from unmask.fitting import EVALUATION, misfits
from unmask.grid import expand
from unmask.grid.work import Grid
from unmask.manifest import STEP
from unmask.mistakes import ConfigError
from unmask.outlook import days, disk, jobs_to_go
from unmask.plan import Standing, jobs_of, slurm_jobs, standing, totals
from unmask.provenance import code_of


def main() -> None:
    """Print one line a run and the totals. Raises InputError if a run cannot fit into the memory of a GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads, help="the workflow's configuration as JSON")
    parser.add_argument("--experiments", nargs="*", required=True)
    args = parser.parse_args()
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
    heads = ["run", "state", "update", "time left", "examined", "train GB", f"{unit}-h", "examine GB", f"{unit}-h"]
    heads += [f"spent {unit}-h", ""]
    align = ("left", "left", *["right"] * 8, "left")
    print(tabulate(rows, heads, disable_numparse=True, colalign=align if rows else None))
    print(totals(list(found.values())))
    print(hours_in_all(list(costs.values()), unit))
    if grid.cost.gpu_memory:
        print(days(list(costs.values()), grid))
        for fidelity in sorted(args.config["fidelities"].keys() - {args.config["fidelity"]}):
            print(price(args.config | {"fidelity": fidelity}, args.experiments))
    print(jobs_to_go(grid, evaluations, found))
    print(disk(grid, evaluations))
    if any(cell.startswith("~") for row in rows for cell in row):
        print(f"~: at the throughput that scales.{grid.scale}.cost assumes; without it, as runs that are done took")
    refuse_what_does_not_fit(grid, evaluations)


def evaluations_of(grid: Grid, experiments: list[str]) -> dict[str, list[str]]:
    """The runs of some experiments, each after the one that it starts from, and the evaluations of each."""
    found: dict[str, list[str]] = {}
    for experiment, one in ((name, grid.experiments[name]) for name in experiments):
        for run in (grid.runs[name] for name in one.runs):
            if run.start_from:
                found.setdefault(run.start_from, [])
            mine = found.setdefault(run.name, [])
            carried = [f"{one.examined}-on-{task}" for task in one.transfers.get(run.name, [])]
            names = [n.removeprefix("samples-") for n in dict.fromkeys(grid.measured(experiment, run.name) + carried)]
            mine += [name for name in names if name in grid.evaluations and name not in mine]
    return found


def line(grid: Grid, cost: Estimate, one: Standing | None, samples: list[str]) -> list[str]:
    """A row of the table; a base model has no training, so no standing."""
    mine = [Path(path) for path in samples if f"/runs/{cost.run}/" in path]
    examined = sum(path.exists() for path in mine)
    digits = 1 if grid.cost.gpu_memory else 3
    state = one.state if one else ("done" if examined == len(mine) else "to do")
    return [
        cost.run,
        state,
        f"{one.step}/{one.updates}" if one else "",
        "" if one is None or one.left is None else f"{one.left / 60:.1f} min",
        f"{examined}/{len(mine)}",
        peak(cost.memory, False, digits) if one else "",
        number(cost.training, cost.training_measured, digits) if one else "",
        peak(cost.memory, True, digits),
        number(cost.evaluation, cost.evaluation_measured, digits),
        f"{cost.spent:.{digits}f}",
        one.note if one else "",
    ]


def peak(memory: dict[str, float], examining: bool, digits: int) -> str:
    """GB of the phase of training, or of the evaluation, that needs most."""
    mine = [value for phase, value in memory.items() if phase.startswith(EVALUATION) == examining]
    return f"{max(mine):.{digits}f}" if mine else "" if memory else "?"


def number(value: float | None, measured: bool, digits: int) -> str:
    """Hours, marked where they rest on an assumption."""
    return "?" if value is None else f"{'' if measured else '~'}{value:.{digits}f}"


def hours_in_all(costs: list[Estimate], unit: str) -> str:
    """One line: hours of the whole, of what is spent and of what is left."""
    whole = sum((one.training or 0) + (one.evaluation or 0) for one in costs)
    spent, left = sum(one.spent for one in costs), sum(one.to_go for one in costs)
    unknown = sum(one.training is None or one.evaluation is None for one in costs)
    said = f"{unit}-hours: about {whole:.1f} in all, {spent:.1f} spent, about {left:.1f} to go"
    return f"{said}; {unknown} runs left out, whose model or test set is not known yet" if unknown else said


def price(config: dict[str, Any], experiments: list[str]) -> str:
    """One line: what the same experiments cost with other settings, from their beginning."""
    try:
        grid = expand(config)
    except ConfigError:
        return f"with --config fidelity={config['fidelity']}: these experiments do not exist, as a dry run with it says"
    costs = estimates(grid, evaluations_of(grid, experiments), {})
    hours = sum((one.training or 0) + (one.evaluation or 0) for one in costs.values())
    return f"with --config fidelity={config['fidelity']}: about {hours:.0f} GPU-hours in all, from the beginning"


def refuse_what_does_not_fit(grid: Grid, evaluations: dict[str, list[str]]) -> None:
    """Raise InputError with the settings to change if a run needs more memory than a GPU has."""
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
