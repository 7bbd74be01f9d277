"""Draw tables, figures and claims of experiments from the runs finished so far, and name the missing ones.

python src/render_so_far.py "$(cat config.json)" --experiments main --published … --papers … --claims … --out so_far
"""

import argparse
import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from unmask.analysis import claim_entries, claim_tables, claims, comparisons, paper_entries, paper_results, tables
from unmask.analysis.claims import Finding
from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.figures import FIGURES
from unmask.analysis.figures.style import plt, save
from unmask.analysis.scores import HACK, RUN, SAMPLE, collect, read_metrics
from unmask.analysis.so_far import Found, find
from unmask.common.atomic import atomic_write, remove
from unmask.common.errors import InputError, run_step
from unmask.common.parquet import read_rows
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid

WANTED = [*RUN, *SAMPLE, *comparisons.COLUMNS, *claims.COLUMNS, "gamma", "difficulty"]
COLUMNS = list(dict.fromkeys(WANTED))


@dataclass(frozen=True)
class Part:
    """Results of an experiment so far: samples (or diagnosis rows), their scores, and training metrics."""

    name: str
    found: Found
    samples: pd.DataFrame
    scores: pd.DataFrame
    metrics: pd.DataFrame


def main() -> None:
    """Write every table and figure that can be drawn, each headed by the missing runs, then the claims."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads, help="the workflow's configuration as JSON")
    parser.add_argument("--experiments", nargs="*", required=True)
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--papers", type=Path, required=True)
    parser.add_argument("--claims", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    grid = expand(args.config)
    printed = paper_results.read(args.published, paper_entries.read(args.papers))
    parts = []
    for name in args.experiments:
        found = find(grid, name)
        print(f"{name}: {found}")
        part = None
        if found.samples:
            part = part_of(grid, name, found)
            parts.append(part)
            draw_tables(grid, part, printed, args.out)
        # Also without samples: figures of an earlier call are then removed.
        draw_figures(grid, name, part, args.out)
    check_claims(args.claims, grid.scale, parts, args.out)
    print(f"{args.out}: drawn from what is done")


def part_of(grid: Grid, name: str, found: Found) -> Part:
    """Read the finished files of an experiment."""
    metrics = found.read(found.metrics, read_metrics)
    if grid.experiments[name].rows == "steps":
        steps = found.read(found.samples, read_rows)
        return Part(name, found, steps, steps, metrics)
    samples = found.read(found.samples, lambda path: read_rows(path, COLUMNS, optional=[HACK]))
    return Part(name, found, samples, collect([samples]), metrics)


def draw_tables(grid: Grid, part: Part, printed: pd.DataFrame, out: Path) -> None:
    """Write an experiment's scores, table and comparisons; a diagnosis has no comparisons."""
    name = part.name
    experiment = grid.experiments[name]
    is_diagnosis = experiment.rows == "steps"
    protocol = None if is_diagnosis else Protocol.of(grid, name)
    texts = {f"scores/{name}.csv": part.scores.to_csv(index=False)}
    table = tables.texts(
        part.scores,
        name,
        experiment.question,
        experiment.rows,
        printed,
        protocol,
    )
    for suffix, text in table.items():
        texts[f"tables/{name}{suffix}"] = text

    if not is_diagnosis:
        compared = comparisons.compare(part.samples)
        texts[f"tables/{name}-comparisons.md"] = comparisons.markdown(name, compared, part.samples)
        texts[f"tables/{name}-comparisons.csv"] = compared.to_csv(index=False)

    for file, text in texts.items():
        write(out / file, text, str(part.found))


def draw_figures(grid: Grid, name: str, part: Part | None, out: Path) -> None:
    """Draw an experiment's figures; report those that cannot be drawn yet and remove their outdated files."""
    for figure in grid.experiments[name].figures:
        files = [out / f"figures/{name}/{figure}.{end}" for end in ("pdf", "png")]
        try:
            drawn = draw(figure, part)
        except InputError as error:
            print(f"{name}: {figure} is not drawn yet: {error}")
            for file in files:
                remove(file)
            continue

        for file in files:
            save(drawn, file)
        plt.close(drawn)


def draw(figure: str, part: Part | None) -> Figure:
    """Draw a figure of an experiment. Raises InputError if there is nothing to draw yet."""
    if part is None:
        raise InputError("no run is done")
    function = FIGURES[figure]
    inputs = [part.scores, part.metrics]
    if "samples" in inspect.signature(function).parameters:
        inputs.append(part.samples)
    drawn = function(*inputs)

    # A figure has no lead text, so the count goes into its title.
    found = part.found
    drawn.suptitle(f"so far: {len(found.samples)} of {len(found.planned)} evaluations", fontsize=8)
    return drawn


def check_claims(resource: Path, scale: str, parts: list[Part], out: Path) -> None:
    """Test the claims on the given experiments; claims on others count as not tested."""
    known = {part.name: part for part in parts}
    findings = []
    for claim in claim_entries.read(resource):
        part = known.get(claim.experiment)
        if part is None:
            findings.append(Finding(claim, "not tested"))
        else:
            findings.append(claims.check(claim, part.samples, part.metrics))

    text = claim_tables.markdown(findings, scale, list(known))
    leads = [f"`{part.name}`: {part.found}" for part in parts]
    write(out / "claims.md", text, "\n\n".join(leads))


def write(path: Path, text: str, lead: str) -> None:
    """Write a text atomically, with `lead` below the title in Markdown and as a comment in LaTeX."""
    # CSV files are read by programs and get no lead.
    first, end, rest = text.partition("\n")
    if path.suffix == ".md":
        text = f"{first}\n\n{lead}\n{rest}"
    if path.suffix == ".tex":
        text = f"{first}{end}% {lead}\n{rest}"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_step(main)
