"""Index of docs/results, README.md: every published experiment with its files, and what made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Set
from pathlib import Path

from unmask.analysis.publication import PROVENANCE, Page, Provenance, Publication
from unmask.config.grid.grid import Grid

OLDER = (
    "**older recipe**: made with settings or base models that the configuration does not have any more, so do not "
    "compare these numbers with those of other experiments."
)


def text(grid: Grid, known: Mapping[str, Page], after: Publication, target: Path, present: Set[str]) -> str:
    """Return README.md: a table of experiments, with links to those files that are `present`, and what made them."""
    rows = []
    for name, made in after.experiments.items():
        page = known[name]
        cells = [name, page.question, _links(page, present), *_effort(page, made)]
        rows.append(f"| {' | '.join(cells)} |")

    lines = [
        f"# Results at scale `{grid.place}`",
        "",
        f"Written by `src/publish_results.py`: experiments finished in `{grid.root}` replace their published versions, "
        "and all others are kept. Each experiment NAME is made by `snakemake NAME` with a profile of this scale. "
        f"[{PROVENANCE}]({PROVENANCE}) records the commits, packages and weights of each, for programs to read. "
        "Remarks on the runs are in "
        "[laptop](../laptop.md#what-is-published) and the [lab log](../develop/lab_log.md).",
        "",
        "Claims: [claims.md](claims.md) on the experiments of `all`, [all_claims.md](all_claims.md); both follow from "
        "the differences in [all_claims.csv](all_claims.csv)."
        + (" The field's: [field_claims.md](field_claims.md)." if "field_claims.md" in present else "")
        + " The papers' claims, grouped by paper: [papers.md](papers.md).",
        "",
        "| experiment | question | files | commit | training runs | last finished | device |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Hours are the sum of all jobs, and a run that two experiments share counts in both. `–`: not recorded. The "
        "commit of pages without runs, such as `exact_toy`, is that of the code that published them.",
    ]
    if any(made.is_older(known[name]) for name, made in after.experiments.items()):
        lines += ["", OLDER]
    lines += ["", *_base_models(after), "", *_packages(after)]
    if (target / "tuning/README.md").exists():
        lines += ["", "[Tuning](tuning/README.md): the sweep of learning rates."]
    return "\n".join(lines) + "\n"


def _links(page: Page, present: Set[str]) -> str:
    """Return Markdown links to those files of a page that there are, labelled by file name."""
    said = []
    for file in page.files:
        if file not in present:
            continue
        name, _, kind = file.rpartition(".")
        label = name.removeprefix(page.name).removeprefix("-").replace("_", " ")
        if not label:
            label = "table" if kind == "md" else "figure"
        label += " (CSV)" if kind == "csv" else ""
        said.append(f"[{label}]({file})")
    return ", ".join(said)


def _effort(page: Page, made: Provenance) -> list[str]:
    """Return the cells on commit, runs, date and device of a page."""
    commit = made.commit(page).replace("older recipe", "**older recipe**")
    runs = "–"
    if made.runs is not None and made.seconds is not None and made.evaluation_seconds is not None:
        runs = f"{made.runs}, {made.seconds / 3600:.1f} h; evaluations {made.evaluation_seconds / 3600:.1f} h"
    return [commit, runs, made.finished or "–", ", ".join(made.devices) or "–"]


def _base_models(after: Publication) -> list[str]:
    """Return a table of the base models that the experiments start from."""
    users: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name, made in after.experiments.items():
        for model, weights in made.base_models.items():
            users[model, weights].append(name)
    if not users:
        return ["The weights of the base models were not recorded."]
    rows = [f"| {model} | {weights[:12]} | {', '.join(names)} |" for (model, weights), names in sorted(users.items())]
    return ["| base model | weights | experiments |", "|---|---|---|", *rows]


def _packages(after: Publication) -> list[str]:
    """Return a list of the versions that experiments ran with."""
    users: defaultdict[str, list[str]] = defaultdict(list)
    for name, made in after.experiments.items():
        if made.packages:
            versions = [f"Python {', '.join(made.python)}"]
            versions += [f"{package} {version}" for package, version in made.packages.items()]
            users[", ".join(versions)].append(name)
    return [f"- {versions}: {', '.join(names)}" for versions, names in users.items()]
