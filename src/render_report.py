"""Render tables, figures, claims and runs of a scale, or of one experiment, as one self-contained HTML page.

python src/render_report.py "$(cat config.json)" --experiments main methods --results results/laptop \
    --claims results/laptop/claims.md --differences results/laptop/claims.csv \
    --resource workflow/resources/claims.yaml --further workflow/resources/surrogate_claims.yaml \
    results/laptop/tables/surrogates-claims.csv --papers workflow/resources/papers.yaml \
    --published workflow/resources/published_results.yaml --papers-md results/laptop/papers.md \
    --templates workflow/report --command "make reproduce" --exact-toy \
    --speed-md results/laptop/speed.md --speed-csv results/laptop/speed.csv --out results/laptop/report.html
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import jinja2

from unmask.analysis import paper_entries, paper_results
from unmask.analysis.claims import Finding
from unmask.analysis.html_report import browser, page, papers, printed_numbers, runs, speed, speed_tables, verdicts
from unmask.analysis.html_report.headline import headline
from unmask.analysis.html_report.links import Folders
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.manifest import git_state, read_manifest, summary
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Experiment, Grid


def main() -> None:
    """Render and write the page; raises InputError if a table, figure or manifest is missing."""
    args = arguments()
    grid = expand(args.config)
    experiments = [grid.experiments[name] for name in args.experiments]
    training = speed.training(args.results, grid, experiments)
    evaluation = speed.evaluation(args.results, grid, experiments)
    speeds = speed_tables.tables(training, evaluation)

    # The other files first, because the page links to them.
    write(args.speed_md, speed_tables.markdown(speeds))
    write(args.speed_csv, speed_tables.csv(training, evaluation))
    folders = Folders(args.results, args.out.parent)
    findings = papers.findings_of(args.resource, args.differences)
    about = papers_of(args, findings, grid, folders)
    write(args.papers_md, papers.markdown(about, grid.place))
    listed = runs.rows(folders, grid, experiments)
    links = {}
    made_beside = {
        "claims": (args.claims, args.differences),
        "papers": (args.papers_md,),
        "speed": (args.speed_md, args.speed_csv),
    }
    for name, files in made_beside.items():
        links[name] = folders.files(*(file.relative_to(args.results).as_posix() for file in files))
    html = (
        environment(args.templates)
        .get_template("page.html.j2")
        .render(
            title=title(grid, experiments, args.exact_toy),
            scale=grid.scale,
            headline=headline(args.results, grid, experiments),
            sections=page.SECTIONS,
            parts=page.parts(folders, experiments, environment(args.templates), args.exact_toy),
            claims=claims_of(args, findings, grid),
            papers=about,
            papers_notes={"introduction": papers.INTRODUCTION, "compared": papers.COMPARED},
            links=links,
            speed=speeds,
            runs=listed,
            browser=browser.data(listed),
            made=made(args.results, grid, experiments),
            drawn_by=git_state(),
            command=args.command,
        )
    )
    write(args.out, html)
    print(f"{args.out}: {len(html) / 1e6:.1f} MB")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads, help="the workflow's configuration as JSON")
    parser.add_argument("--experiments", nargs="*", required=True)
    parser.add_argument("--results", type=Path, required=True, help="folder of the scale's results")
    parser.add_argument("--claims", type=Path, required=True, help="the verdicts on the claims, as Markdown")
    parser.add_argument("--differences", type=Path, required=True, help="the differences that they follow from, as CSV")
    parser.add_argument("--resource", type=Path, required=True, help="claims.yaml")
    parser.add_argument(
        "--further",
        type=Path,
        nargs="+",
        action="append",
        default=[],
        metavar="FILE",
        help="another file of claims, and the differences that its verdicts follow from if it was tested",
    )
    parser.add_argument("--papers", type=Path, required=True, help="papers.yaml")
    parser.add_argument("--published", type=Path, required=True, help="published_results.yaml")
    parser.add_argument("--papers-md", type=Path, required=True, help="file for the pages on the papers as Markdown")
    parser.add_argument("--templates", type=Path, required=True, help="folder with page.html.j2 and the captions")
    parser.add_argument("--command", required=True, help="command that renders the page again, shown on it")
    parser.add_argument("--exact-toy", action="store_true", help="show the exact toy, too")
    parser.add_argument("--speed-md", type=Path, required=True, help="file for the tables of the speed as Markdown")
    parser.add_argument("--speed-csv", type=Path, required=True, help="file for the numbers of the speed")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def environment(folder: Path) -> jinja2.Environment:
    """Return the templates of a folder."""
    # Names come from config.yaml, so they are escaped; an undefined variable is a bug in the template, not blank text.
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    # JSON has no NaN: a browser would refuse the whole block.
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return templates


def title(grid: Grid, experiments: list[Experiment], of_scale: bool) -> str:
    """Return the title of the page: that of a scale, or of one experiment."""
    if of_scale:
        return f"unmask: results at scale {grid.scale}"
    names = ", ".join(one.name for one in experiments)
    return f"unmask: {names} at scale {grid.scale}"


def claims_of(args: argparse.Namespace, findings: list[Finding], grid: Grid) -> dict[str, Any]:
    """Return what the page says about the claims: verdicts, notes on how to read them, claims that are not tested."""
    # The page has the table itself, with links, and a list of the claims that are not tested.
    told = page.without_title(page.read(args.claims))
    notes = re.sub(r"^(\||Not tested:).*\n?", "", told, flags=re.MULTILINE)
    return {
        "summary": verdicts.summary(findings),
        "lines": verdicts.lines(findings),
        "notes": page.markdown(notes, "claims"),
        "untested": verdicts.untested(findings, grid, args.experiments),
    }


def papers_of(
    args: argparse.Namespace,
    findings: list[Finding],
    grid: Grid,
    folders: Folders,
) -> list[papers.PaperPage]:
    """Return the pages on the papers, from all files of claims and all printed numbers."""
    known = paper_entries.read(args.papers)
    files = [findings]
    for claims, *differences in args.further:
        # A report on one experiment may be on claims of a further file already.
        if claims.samefile(args.resource):
            continue
        files.append(papers.findings_of(claims, differences[0] if differences else None))
    printed = paper_results.read(args.published, known)
    printed = printed_numbers.printed_by_checkpoints(args.config.get("checkpoints", {}), printed, known)
    return papers.pages(known, files, printed, grid, args.experiments, folders)


def made(results: Path, grid: Grid, experiments: list[Experiment]) -> dict[str, str]:
    """Return what made the runs, by label: commits, devices, packages; empty if nothing was trained."""
    names = {name for experiment in experiments for name in experiment.runs if grid.runs[name].trains}
    manifests = [read_manifest(results / "runs" / name / "manifest.json") for name in sorted(names)]
    return summary(manifests) if manifests else {}


def write(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_step(main)
