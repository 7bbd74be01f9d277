"""Render a scale's tables, figures, claims and runs as one self-contained HTML page.

python src/render_report.py "$(cat config.json)" --experiments main methods --claims results/laptop/claims.md \
    --templates workflow/report --command "make reproduce" --speed-md results/laptop/speed.md \
    --speed-csv results/laptop/speed.csv --out results/laptop/report.html
"""

import argparse
import json
from pathlib import Path

import jinja2

from unmask.analysis.html_report import page, runs, speed, speed_tables
from unmask.common.atomic import atomic_write
from unmask.common.errors import run_step
from unmask.common.manifest import git_state, read_manifest, summary
from unmask.config.grid.expand import expand


def main() -> None:
    """Render and write the page; raises InputError if a table, figure or manifest is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=json.loads, help="the workflow's configuration as JSON")
    parser.add_argument("--experiments", nargs="*", required=True)
    parser.add_argument("--claims", type=Path, required=True, help="claims.md, in the folder of the scale's results")
    parser.add_argument("--templates", type=Path, required=True, help="folder with page.html.j2 and the captions")
    parser.add_argument("--command", required=True, help="command that renders the page again, shown on it")
    parser.add_argument("--speed-md", type=Path, required=True, help="file for the tables of the speed as Markdown")
    parser.add_argument("--speed-csv", type=Path, required=True, help="file for the numbers of the speed")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    grid = expand(args.config)
    root = args.claims.parent
    experiments = [grid.experiments[name] for name in args.experiments]
    names: set[str] = set()
    for experiment in experiments:
        names.update(experiment.runs)
    trained = sorted(name for name in names if grid.runs[name].trains)
    manifests = [read_manifest(root / "runs" / name / "manifest.json") for name in trained]

    # Names come from config.yaml, so they are escaped; an undefined variable is a bug in the template, not blank text.
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(args.templates),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    claims = page.without_title(page.read(args.claims))
    training = speed.training(root, grid, experiments)
    evaluation = speed.evaluation(root, grid, experiments)
    speeds = speed_tables.tables(training, evaluation)
    html = templates.get_template("page.html.j2").render(
        scale=grid.scale,
        sections=page.SECTIONS,
        parts=page.parts(root, experiments, templates),
        claims=page.markdown(claims),
        speed=speeds,
        runs=runs.rows(root, grid, experiments),
        box=(runs.WIDTH, runs.HEIGHT),
        made=summary(manifests) if manifests else {},
        drawn_by=git_state(),
        command=args.command,
    )

    texts = {
        args.speed_md: speed_tables.markdown(speeds),
        args.speed_csv: speed_tables.csv(training, evaluation),
        args.out: html,
    }
    for path, text in texts.items():
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(f"{args.out}: {len(html) / 1e6:.1f} MB")


if __name__ == "__main__":
    run_step(main)
