"""Draw tables, figures and claims of experiments from the runs finished so far, and name the missing ones.

python src/render_so_far.py "$(cat config.json)" --experiments main --published … --claims … --out results/laptop/so_far
"""

import argparse
import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unmask.analysis import claim_tables, claims, comparisons, paper_results, tables
from unmask.analysis.decoding_protocol import Protocol
from unmask.analysis.figures import FIGURES
from unmask.analysis.figures.style import plt, save
from unmask.analysis.scores import RUN, SAMPLE, collect, read_metrics
from unmask.analysis.so_far import Found, find
from unmask.common.atomic import atomic_write, remove
from unmask.common.errors import InputError, run_step
from unmask.common.parquet import read_rows
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid

COLUMNS = list(dict.fromkeys([*RUN, *SAMPLE, *comparisons.COLUMNS, *claims.COLUMNS, "gamma", "difficulty"]))


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
    parser.add_argument("--claims", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    grid, printed, parts = expand(args.config), paper_results.read(args.published), []
    for name in args.experiments:
        found = find(grid, name)
        print(f"{name}: {found}")
        if found.samples:
            parts.append(part_of(grid, name, found))
            draw_tables(grid, parts[-1], printed, args.out)

        # Also without samples: figures of an earlier call are then removed.
        draw_figures(grid, name, parts[-1] if found.samples else None, args.out)
    check_claims(args.claims, grid.scale, parts, args.out)
    print(f"{args.out}: drawn from what is done")


def part_of(grid: Grid, name: str, found: Found) -> Part:
    """Read the finished files of an experiment."""
    steps = grid.experiments[name].rows == "steps"
    samples = found.read(found.samples, lambda path: read_rows(path, None if steps else COLUMNS))
    scores = samples if steps else collect([samples])
    return Part(name, found, samples, scores, found.read(found.metrics, read_metrics))


def draw_tables(grid: Grid, part: Part, printed: pd.DataFrame, out: Path) -> None:
    """Write an experiment's scores, table and comparisons; a diagnosis has no comparisons."""
    one = grid.experiments[part.name]
    protocol = None if one.rows == "steps" else Protocol.of(grid, part.name)
    texts = tables.texts(part.scores, part.name, one.question, one.rows, printed, protocol)
    texts = {f"tables/{part.name}{end}": text for end, text in texts.items()}
    texts[f"scores/{part.name}.csv"] = part.scores.to_csv(index=False)

    if one.rows != "steps":
        compared = comparisons.compare(part.samples)
        texts[f"tables/{part.name}-comparisons.md"] = comparisons.markdown(part.name, compared, part.samples)
        texts[f"tables/{part.name}-comparisons.csv"] = compared.to_csv(index=False)

    for name, text in texts.items():
        write(out / name, text, str(part.found))


def draw_figures(grid: Grid, name: str, part: Part | None, out: Path) -> None:
    """Draw an experiment's figures; report those that cannot be drawn yet and remove their outdated files."""
    for figure in grid.experiments[name].figures:
        files = [out / f"figures/{name}/{figure}.{end}" for end in ("pdf", "png")]
        try:
            if part is None:
                raise InputError("no run is done")
            more = [part.samples] if "samples" in inspect.signature(FIGURES[figure]).parameters else []
            drawn = FIGURES[figure](part.scores, part.metrics, *more)
        except InputError as error:
            print(f"{name}: {figure} is not drawn yet: {error}")
            for file in files:
                remove(file)
            continue

        # A figure has no lead text, so the count goes into its title.
        drawn.suptitle(f"so far: {len(part.found.samples)} of {len(part.found.planned)} evaluations", fontsize=8)
        for file in files:
            save(drawn, file)
        plt.close(drawn)


def check_claims(resource: Path, scale: str, parts: list[Part], out: Path) -> None:
    """Test the claims on the given experiments; claims on others count as not tested."""
    known = {part.name: part for part in parts}
    found = []
    for claim in claims.read(resource):
        part = known.get(claim.experiment)
        found.append(claims.check(claim, part.samples, part.metrics) if part else claims.check(claim, None))

    lead = "\n\n".join(f"`{part.name}`: {part.found}" for part in parts)
    write(out / "claims.md", claim_tables.markdown(found, scale, list(known)), lead)


def write(path: Path, text: str, lead: str) -> None:
    """Write a text atomically, with `lead` below the title in Markdown and as a comment in LaTeX."""
    # CSV files are read by programs and get no lead.
    first, end, rest = text.partition("\n")
    texts = {".md": f"{first}\n\n{lead}\n{rest}", ".tex": f"{first}{end}% {lead}\n{rest}"}
    with atomic_write(path) as temporary:
        temporary.write_text(texts.get(path.suffix, text), encoding="utf-8")


if __name__ == "__main__":
    run_step(main)
