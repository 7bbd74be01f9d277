"""Copy the tables, claims and pictures of a finished scale to docs/results, with what they were made of.

python src/publish_results.py results/laptop docs/results
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from unmask.files import InputError, run_step, writing
from unmask.manifest import read_manifest, summary


def main() -> None:
    """Replace the Markdown and PNG files of the target folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args()
    manifests = [read_manifest(file) for file in sorted(args.results.glob("runs/*/*/*/*/manifest.json"))]
    if not manifests:
        raise InputError(f"{args.results}: no finished run in it. `make reproduce` makes results/laptop.")
    for old in (*args.target.glob("*.md"), *args.target.glob("*.png")):
        old.unlink()
    files = {f"{table.name}": table for table in args.results.glob("tables/*.md")}
    files |= {
        "-".join(f.relative_to(args.results / "figures").parts): f for f in args.results.rglob("figures/**/*.png")
    }
    files |= {"claims.md": args.results / "claims.md"}
    for name, source in sorted(files.items()):
        with writing(args.target / name) as temporary:
            shutil.copyfile(source, temporary)
    with writing(args.target / "README.md") as temporary:
        temporary.write_text(description(args.results, sorted(files), manifests), encoding="utf-8")


def description(results: Path, names: list[str], manifests: list[dict[str, Any]]) -> str:
    """What the files are, and what made them."""
    lines = [
        "# Results of a run",
        "",
        f"Copied from `{results}` by `make docs-results`. Each experiment NAME is made by `snakemake --profile "
        f"{results.name} NAME`; `main`, `exact_toy` and the claims by `make reproduce`.",
        "",
        *(f"- {label}: {text}" for label, text in summary(manifests).items()),
        "",
        *(f"- [{name}]({name})" for name in names),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_step(main)
