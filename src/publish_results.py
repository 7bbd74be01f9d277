"""Copy the tables, claims and figures of a finished scale to docs/results, with a README on their provenance.

python src/publish_results.py results/laptop docs/results
"""

import argparse
import shutil
from collections import defaultdict
from pathlib import Path

from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step
from unmask.common.manifest import Manifest, read_manifest, summary

# Verdicts of `all`, of `everything` and on the field's claims, each with the differences by seed and problem as CSV.
CLAIMS = ("claims.md", "claims.csv", "all_claims.md", "all_claims.csv", "field_claims.md", "field_claims.csv")
PAPERS = ("papers.md", "all_papers.md")  # the same by paper


def main() -> None:
    """Replace the Markdown, PNG and CSV files of the target folder; raises InputError if no run is finished."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()

    finished = sorted(args.results.glob("runs/*/*/*/*/manifest.json"))
    manifests = [read_manifest(file) for file in finished]
    if not manifests:
        raise InputError(f"{args.results}: no finished run in this folder. `make reproduce` makes results/laptop.")

    # Delete first: files of experiments that no longer exist would otherwise stay and look current.
    for suffix in ("md", "png", "csv"):
        for old in args.target.glob(f"*.{suffix}"):
            old.unlink()

    files = published(args.results)
    for name, source in sorted(files.items()):
        with atomic_write(args.target / name) as temporary:
            if name in PAPERS:
                # Its links to the documentation are the only ones that the copy would break.
                text = source.read_text(encoding="utf-8").replace("](../../docs/", "](../")
                temporary.write_text(text, encoding="utf-8")
            else:
                shutil.copyfile(source, temporary)
    text = description(args.results, files, manifests)
    with atomic_write(args.target / "README.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def published(results: Path) -> dict[str, Path]:
    """Return the files to copy by the name of their copy."""
    files = {table.name: table for table in results.glob("tables/*.md")}
    # The target is flat, so the experiment's folder becomes a prefix: figures/main/x.png -> main-x.png.
    for figure in results.rglob("figures/**/*.png"):
        parts = figure.relative_to(results / "figures").parts
        files["-".join(parts)] = figure
    for name in (*CLAIMS, *PAPERS):
        if (results / name).exists():
            files[name] = results / name
    return files


def description(results: Path, files: dict[str, Path], manifests: list[Manifest]) -> str:
    """Return the README: provenance of the runs, and a table of experiments with links to their files."""
    own: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(files.keys() - {*CLAIMS, *PAPERS}):
        experiment = experiment_of(files[name])
        own[experiment].append(name)

    provenance = [f"- {label}: {text}" for label, text in summary(manifests).items()]
    rows = []
    for name, made in own.items():
        table = files.get(f"{name}.md")
        rows.append(f"| {name} | {question(table)} | {links(name, made)} |")
    claims, papers = ([f"[{name}]({name})" for name in names if name in files] for names in (CLAIMS, PAPERS))
    lines = [
        "# Results of a run",
        "",
        f"Copied from `{results}` by `make docs-results`. Each experiment NAME is made by `snakemake --profile "
        f"{results.name} NAME`; `main`, `exact_toy` and claims.md by `make reproduce`, all of them but those set "
        "apart in config.yaml (`four_tasks`) and all_claims.md by `make reproduce-all`.",
        "",
        *provenance,
        "",
        "| experiment | question | files |",
        "|---|---|---|",
        *rows,
        "",
        f"Claims: {', '.join(claims)}.",
    ]
    if papers:
        lines += ["", f"By paper, with what each prints and how its checkpoint was chosen: {', '.join(papers)}."]
    return "\n".join(lines) + "\n"


def experiment_of(file: Path) -> str:
    """Return NAME for tables/NAME.md, tables/NAME-comparisons.md, figures/NAME/….png and figures/NAME.png."""
    folder = file.parent.name
    if folder in ("tables", "figures"):
        return file.stem.removesuffix("-comparisons")
    return folder


def question(table: Path | None) -> str:
    """Return an experiment's question, below the heading of its table; the exact toy's table has neither."""
    if table is None:
        return ""
    match table.read_text(encoding="utf-8").splitlines():
        case [heading, _, text, *_] if heading.startswith("# "):
            return text
        case _:
            return ""


def links(experiment: str, files: list[str]) -> str:
    """Return Markdown links to an experiment's table, comparisons and figures, labelled by file name."""
    said = []
    for file in files:
        name, _, kind = file.rpartition(".")
        label = name.removeprefix(experiment).removeprefix("-").replace("_", " ")
        if not label:
            label = "table" if kind == "md" else "figure"
        said.append(f"[{label}]({file})")
    return ", ".join(said)


if __name__ == "__main__":
    run_step(main)
