"""Say of every run of some experiments whether it is done, running, queued or to do, and what to cancel.

python src/show_plan.py "$(cat config.json)" --experiments main methods
"""

import argparse
import json
from pathlib import Path

from tabulate import tabulate

from unmask.files import run_step
from unmask.grid import Grid, expand
from unmask.manifest import sha256_of_source
from unmask.plan import Standing, jobs_of, slurm_jobs, standing, totals

COLUMNS = ("run", "state", "update", "time left", "examined", "")


def main() -> None:
    """Print one line a run and the totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads, help="the workflow's configuration as JSON")
    parser.add_argument("--experiments", nargs="*", required=True)
    args = parser.parse_args()
    grid = expand(args.config)
    runs = {name for experiment in args.experiments for name in trained(grid, experiment)}
    jobs, source, root = slurm_jobs(Path()), sha256_of_source(), Path("results", grid.scale, "runs")
    found = [
        standing(run, root / name, jobs_of(name, grid.scale, jobs), source)
        for name, run in grid.runs.items()
        if name in runs
    ]
    samples = [path for experiment in args.experiments for path in grid.samples(experiment)]
    print(tabulate([line(one, samples) for one in found], COLUMNS, disable_numparse=True))
    print(totals(found))


def trained(grid: Grid, experiment: str) -> list[str]:
    """The runs of an experiment that train, after those that they start from."""
    runs = [grid.runs[name] for name in grid.experiments[experiment].runs if grid.runs[name].trains]
    return [name for run in runs for name in (run.start_from, run.name) if name]


def line(one: Standing, samples: list[str]) -> list[str]:
    """A row of the table."""
    mine = [Path(path) for path in samples if f"/runs/{one.run}/" in path]
    return [
        one.run,
        one.state,
        f"{one.step}/{one.updates}",
        "" if one.left is None else f"{one.left / 60:.1f} min",
        f"{sum(path.exists() for path in mine)}/{len(mine)}",
        one.note,
    ]


if __name__ == "__main__":
    run_step(main)
