"""Publish the experiments that a folder of results has finished; what was published of others stays.

python src/publish_results.py results/laptop docs/results
"""

import argparse
import shutil
from pathlib import Path

import pandas as pd

from unmask.analysis import claim_entries, published_index, published_papers
from unmask.analysis.claim_numbers import check_all, metrics_of_runs
from unmask.analysis.claim_tables import differences, from_differences, markdown, merged
from unmask.analysis.claims import Finding
from unmask.analysis.publication import (
    PROVENANCE,
    Page,
    Provenance,
    Publication,
    begun,
    check_base_models,
    lacking,
    pages,
    provenance,
    read_publication,
)
from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step
from unmask.common.parquet import read_csv
from unmask.config import overrides
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid
from unmask.config.loading import ROOT, merged_config, with_defaults

PAPERS = "all_claims"
# Tables of verdicts, each with the differences that it follows from as CSV; claims.md is a part of the first.
RESOURCES = {
    PAPERS: ROOT / "workflow/resources/claims.yaml",
    "field_claims": ROOT / "workflow/resources/field_claims.yaml",
}


def main() -> None:
    """Replace the finished experiments in the target folder, and remove files that no experiment makes any more.

    Raises InputError if no experiment is finished, or if its base models differ from those of published ones.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results/SCALE")
    parser.add_argument("target", type=Path)
    parser.add_argument("--replace-all", action="store_true", help="keep nothing of what was published before")
    parser.add_argument("--scale", help="default: the name of the folder of results")
    parser.add_argument("--fidelity", help="default: that of config.yaml")
    parser.add_argument(
        "--configfile", type=Path, nargs="+", default=[], help="over config.yaml, as given to snakemake"
    )
    overrides.add_option(parser)
    args = parser.parse_args()

    grid = grid_of(args)
    known = pages(grid)
    new = finished(known, args.results)
    before = Publication(scale=grid.place) if args.replace_all else published(args.target, grid, known)
    # Pages of a folder that has no record of them are kept, too.
    kept = {} if args.replace_all else kept_pages(before, known, new, args.target)
    made = {name: new.get(name) or kept.get(name) for name in known}
    after = Publication(scale=grid.place, experiments={name: one for name, one in made.items() if one})
    check_base_models(after.experiments)

    # Everything is read before anything is written.
    texts = claim_texts(grid, known, after, new, args)
    texts[PROVENANCE] = after.text()
    files = [name for page in after.experiments for name in known[page].files]
    present = {name for name in files if (args.target / name).exists()}
    copied = {name: args.results / path for page in new for name, path in known[page].files.items()}
    texts["README.md"] = published_index.text(grid, known, after, args.target, present | copied.keys() | texts.keys())

    for name, source in copied.items():
        with atomic_write(args.target / name) as temporary:
            shutil.copyfile(source, temporary)
    for name, text in texts.items():
        with atomic_write(args.target / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    remove_others(args.target, {*files, *texts})
    print(f"published: {', '.join(new)}")
    if kept:
        print(f"kept: {', '.join(kept)}")


def grid_of(args: argparse.Namespace) -> Grid:
    """Return the grid that the results were made from. Raises InputError if they are of another scale."""
    place = args.results.resolve().name
    chosen = [f"scale={args.scale or place}"]
    if args.fidelity:
        chosen.append(f"fidelity={args.fidelity}")
    raw, _ = overrides.with_overrides(with_defaults(merged_config(args.configfile)), [*chosen, *args.set])
    try:
        grid = expand(raw)
    except ConfigError as error:
        raise InputError(str(error)) from error
    if grid.place != place:
        raise InputError(f"{args.results}: not results/{grid.place}; pass --scale and --fidelity of these results")
    return grid


def finished(known: dict[str, Page], results: Path) -> dict[str, Provenance]:
    """Return what made each finished page; print what the others lack. Raises InputError if none is finished."""
    found = {}
    for name, page in known.items():
        missing = lacking(page, results)
        if not missing:
            found[name] = provenance(page, results)
        elif begun(page, results):
            print(f"not finished: {name}: {missing}")
    if not found:
        raise InputError(f"{results}: no finished experiment in this folder. `make reproduce` makes results/laptop.")
    return found


def published(target: Path, grid: Grid, known: dict[str, Page]) -> Publication:
    """Return what was published before. Raises InputError if it is of another scale or has strange files."""
    before = read_publication(target)
    if before is None:
        # Files that are no results would be removed below as pages that nobody makes any more.
        strange = [file.name for file in others(target, files_of(known))]
        if strange:
            raise InputError(
                f"{target}: has no {PROVENANCE}, but {strange[0]}, which is no file of results; choose another folder, "
                "or pass --replace-all to delete all Markdown, PNG and CSV files in it"
            )
        before = Publication(scale=grid.place)
    if before.scale != grid.place:
        raise InputError(f"{target}: has results of {before.scale}, not of {grid.place}; choose another folder")
    return before


def kept_pages(
    before: Publication, known: dict[str, Page], new: dict[str, Provenance], target: Path
) -> dict[str, Provenance]:
    """Return the pages that stay: published before, in the configuration, and not made again."""
    kept = {}
    for name, page in known.items():
        if name not in new and any((target / file).exists() for file in page.files):
            kept[name] = before.experiments.get(name) or Provenance()
    return kept


def claim_texts(
    grid: Grid, known: dict[str, Page], after: Publication, new: dict[str, Provenance], args: argparse.Namespace
) -> dict[str, str]:
    """Return the differences of all published experiments, and the verdicts that follow, as tables and by paper.

    The tables of the field's claims only once one of their experiments is published.
    """
    commits = {name: made.commit(known[name]) for name, made in after.experiments.items()}
    texts = {}
    found_in = []
    for table, resource in RESOURCES.items():
        claims = claim_entries.read(resource)
        rows = differences_of(claims, f"{table}.csv", grid, after, new, args)
        findings = from_differences(claims, rows)
        found_in.append(findings)
        # Pages of an older recipe may have been published without their claims.
        with_numbers = {found.claim.experiment for found in findings if found.verdict != "not tested"}
        named = {claim.experiment for claim in claims}
        measured = [
            name
            for name, made in after.experiments.items()
            if name in with_numbers or (made.settings and (table == PAPERS or name in named))
        ]
        if table != PAPERS and not with_numbers:
            continue
        texts[f"{table}.csv"] = rows.to_csv(index=False)
        texts[f"{table}.md"] = markdown(findings, grid.place, measured, commits)
        if table == PAPERS:
            main = [name for name in measured if name in grid.wanted]
            texts["claims.md"] = markdown([_only(found, main) for found in findings], grid.place, main, commits)

    made = args.results / known["surrogates"].files[published_papers.DIFFERENCES] if "surrogates" in new else None
    stored = args.target / published_papers.DIFFERENCES if "surrogates" in after.experiments else None
    found_in.append(published_papers.enumerated(made, stored))
    has_field = published_papers.FIELD in texts
    texts["papers.md"] = published_papers.text(found_in, grid, args.target, commits, field=has_field)
    return texts


def differences_of(
    claims: list[claim_entries.Claim],
    name: str,
    grid: Grid,
    after: Publication,
    new: dict[str, Provenance],
    args: argparse.Namespace,
) -> pd.DataFrame:
    """Return the differences of claims: those of finished experiments, and of others as they were published."""
    experiments = [experiment for experiment in new if experiment in grid.experiments]
    rows = differences(check_all(claims, grid, experiments, args.results, metrics_of_runs))
    stored = args.target / name
    if not stored.exists() or args.replace_all:
        return rows
    gone = [claim.experiment for claim in claims if claim.experiment not in after.experiments]
    return merged(claims, read_csv(stored), rows, [*experiments, *gone])


def _only(found: Finding, experiments: list[str]) -> Finding:
    """Return a finding, as not tested if it is on none of the experiments."""
    return found if found.claim.experiment in experiments else Finding(found.claim, "not tested")


def remove_others(target: Path, files: set[str]) -> None:
    """Delete the Markdown, PNG and CSV files that are none of `files`: they would stay and look current."""
    for old in others(target, files):
        old.unlink()
        print(f"removed: {old}")


def others(target: Path, files: set[str]) -> list[Path]:
    """Return the Markdown, PNG and CSV files of a folder that are none of `files`."""
    found = [file for suffix in ("md", "png", "csv") for file in target.glob(f"*.{suffix}")]
    return sorted(file for file in found if file.name not in files)


def files_of(known: dict[str, Page]) -> set[str]:
    """Return the names of all files that are ever published."""
    tables = {f"{table}.{suffix}" for table in RESOURCES for suffix in ("csv", "md")}
    return {"README.md", "claims.md", "papers.md", *tables, *(name for page in known.values() for name in page.files)}


if __name__ == "__main__":
    run_step(main)
