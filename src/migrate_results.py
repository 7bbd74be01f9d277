"""Rewrite the specs and digests of finished runs after settings were renamed (CHANGELOG.md, Upgrade).

python src/migrate_results.py results/laptop              prints what would be rewritten
python src/migrate_results.py results/laptop --write      does it

Run it in the folder of the workflow, with the configuration that the project was made with, under the new names. No
weights, samples or tables are touched, and snakemake repeats no training run and no evaluation afterwards. The command
can be interrupted and repeated.
"""

import argparse
import contextlib
import functools
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

from unmask.analysis.lineage import Lineage, content_of
from unmask.common.errors import InputError, run_step
from unmask.config import overrides
from unmask.config.blame import by_file
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid
from unmask.config.loading import ROOT, RawConfig, merged_config, with_defaults
from unmask.config.schema.types import Values
from unmask.config.specs import DiagnosisSpec, RunSpec
from unmask.planning.migration import Migration, plan_migration
from unmask.planning.snakemake_records import METADATA, is_locked, record_path, with_parameters
from unmask.planning.status import living_holder

SHOWN = 10  # runs that are named


def main() -> None:
    """Plan the migration, print it and, with --write, carry it out. Raises InputError while something is running."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a scale, such as results/laptop")
    parser.add_argument("--write", action="store_true", help="rewrite the files; without it nothing is changed")
    configfile = "as given to snakemake; once for each of several files"
    parser.add_argument("--configfile", type=Path, action="append", default=[], help=configfile)
    overrides.add_option(parser)
    args = parser.parse_args()
    plan = plan_migration(args.results)
    if not (plan.folder / "runs").is_dir():
        raise InputError(f"{args.results}: has no folder `runs`; name the folder of a scale, such as results/laptop")

    refuse_while_running(plan)
    if not plan.is_empty and (plan.work / METADATA).is_dir():
        grid = grid_of(plan.folder, args.configfile, args.set)
        add_analysis_records(plan, grid)
    show(plan)
    if plan.is_empty:
        return
    if not args.write:
        print("nothing was written; add --write")
        return
    plan.write()
    print("done; `snakemake -n` repeats none of these, and draws tables again only if their code has changed")


def refuse_while_running(plan: Migration) -> None:
    """Raise InputError if a job works in the folder: it would write old digests again."""
    if is_locked(plan.work):
        how = "wait for it; if it was killed, run `snakemake --unlock`"
        raise InputError(f"{plan.work}: a snakemake works in this folder; {how}")
    for spec in plan.folder.glob("runs/*/*/*/*/spec.yaml"):
        if living_holder(spec.parent):
            raise InputError(f"{spec.parent}: is being trained; wait for it or stop it, then start again")


def show(plan: Migration) -> None:
    """Print the counts of what is rewritten, the runs, and what is left as it is."""
    specs, manifests = counted(len(plan.specs), "spec"), counted(len(plan.manifests), "manifest")
    print(f"{plan.folder.name}: {specs}, {manifests} and {len(plan.records)} of Snakemake's records to rewrite")

    # A scale has hundreds of runs, all of which change in the same way.
    for path in list(plan.specs)[:SHOWN]:
        before, after = plan.digests[path]
        place = path.parent.relative_to(plan.folder).as_posix()
        print(f"  {place}: {before} -> {after}")
    if len(plan.specs) > SHOWN:
        print(f"  and {len(plan.specs) - SHOWN} more")
    for line in plan.left:
        print(f"not migrated: {line}")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- tables, figures and claims ---------------------------------------------------------------------------------------


def grid_of(results: Path, configfiles: list[Path], changes: list[str]) -> Grid:
    """Return the grid of a results folder, an absolute path, from config.yaml and what snakemake is given over it."""
    config, given = overrides.with_overrides(with_defaults(merged_config(configfiles)), changes)
    chosen = chosen_of(results.name, config)
    # Local data files are named relative to the folder of the workflow.
    with contextlib.chdir(results.parents[1]):
        try:
            return expand(config | chosen)
        except ConfigError as mistakes:
            raise InputError(by_file(mistakes.lines, config, [(overrides.COMMAND_LINE, given)])) from None


def chosen_of(place: str, config: RawConfig) -> dict[str, str]:
    """Return scale and fidelity of a folder below results/, which is named SCALE or SCALE-FIDELITY."""
    first, *others = config["fidelities"]
    for scale in config["scales"]:
        for name in (scale, f"{scale}-pilot"):
            if place == name:
                return {"scale": name, "fidelity": first}
            for fidelity in others:
                if place == f"{name}-{fidelity}":
                    return {"scale": name, "fidelity": fidelity}
    raise InputError(
        f"results/{place}: no scale of this name, and no scale and fidelity; give the --configfile with it"
    )


@dataclass(frozen=True)
class FormerRun(RunSpec):
    """Run that has the digest of before the migration."""

    former: str = ""

    @property
    def digest(self) -> str:
        """Digest that the run had."""
        return self.former


@dataclass(frozen=True)
class FormerDiagnosis(DiagnosisSpec):
    """Diagnosis that has the digest of before the migration."""

    former: str = ""

    @property
    def digest(self) -> str:
        """Digest that the diagnosis had."""
        return self.former


def former_grid(grid: Grid, former: dict[str, str]) -> Grid:
    """Return the grid with the digests that its runs and diagnoses had; `former` has them by the new ones."""

    def values(spec: RunSpec | DiagnosisSpec) -> Values:
        kept = {one.name: getattr(spec, one.name) for one in fields(spec)}
        # Base models and runs that are not on disk have kept their digest.
        return kept | {"former": former.get(spec.digest, spec.digest)}

    runs: dict[str, RunSpec] = {}
    for name, run in grid.runs.items():
        runs[name] = FormerRun(**values(run))
    diagnoses: dict[str, DiagnosisSpec] = {}
    for name, diagnosis in grid.diagnoses.items():
        diagnoses[name] = FormerDiagnosis(**values(diagnosis))
    return replace(grid, runs=runs, diagnoses=diagnoses)


def add_analysis_records(plan: Migration, grid: Grid) -> None:
    """Translate Snakemake's records of tables, figures and claims that are up to date.

    Those that are not, because settings or code have changed since, keep their records and are made again.
    """
    former = {after: before for before, after in plan.digests.values()}
    jobs_before = Lineage(former_grid(grid, former), ROOT).jobs()
    jobs_after = Lineage(grid, ROOT).jobs()
    translated: dict[str, str] = {}  # parameters as recorded -> as they will be computed

    # Cached, because the verdicts on claims read the manifests of all experiments.
    @functools.cache
    def contents(file: str) -> str:
        return content_of(plan.work / file)

    def planned(file: str) -> str:
        text = plan.manifests.get(plan.work / file)
        if text is None:
            return contents(file)
        return str(json.loads(text)["digest"])

    # Both grids have the same jobs in the same order; only digests differ.
    for before, after in zip(jobs_before, jobs_after, strict=True):
        translated[before.parameter(contents)] = after.parameter(planned)
        for output in after.outputs:
            record = record_path(plan.work, output)
            text = with_parameters(record, lambda value: translated.get(value, value))
            if text is not None:
                plan.records[record] = text


if __name__ == "__main__":
    run_step(main)
