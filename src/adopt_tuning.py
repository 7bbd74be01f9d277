"""Publish the choices of finished sweeps, and derive workflow/config/tuned/SCALE.yaml from all that are published.

The workflow reads that file. A sweep may be of some methods only: what was published of the others stays, and so do the
settings that follow from it. Choices of another configuration than today's are skipped.

python src/adopt_tuning.py results/laptop/tuning docs/results/tuning workflow/config/tuned/laptop.yaml --scale laptop
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import yaml

from unmask.analysis.tuning import Choice
from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step
from unmask.config.grid.expand import expand
from unmask.config.grid.grid import Grid
from unmask.config.loading import load_config

HEADER = """\
# Settings of scale `{scale}` that were chosen by its sweeps (`tune`, `tune_NAME`), written by `make adopt-tuning`.
# The candidates and their scores are in docs/results/tuning; a test derives this file from them.

"""


def main() -> None:
    """Copy the choices and write the file. Raises InputError if there is no finished tuning of today's settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuning", type=Path, help="METHOD/TASK.yaml of finished sweeps")
    parser.add_argument("published", type=Path, help="where those of all sweeps are kept")
    parser.add_argument("target", type=Path)
    parser.add_argument("--scale", required=True)
    args = parser.parse_args()

    files = sorted(args.tuning.glob("*/*.yaml"))
    if not files:
        raise InputError(f"{args.tuning}: no finished tuning; run `snakemake --profile {args.scale} tune` first")
    grid = expand(load_config() | {"scale": args.scale})
    current = [file for file in files if is_current(Choice.read(file), grid)]  # `read` refuses an edited choice
    for file in sorted(set(files) - set(current)):
        print(f"skipped: {file}: of other settings than the configuration's; run `tune` again")
    if not current:
        raise InputError(f"{args.tuning}: no tuning with the settings of the configuration; run `tune` again")
    for file in current:
        copy = args.published / file.relative_to(args.tuning)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(copy) as temporary:
            shutil.copyfile(file, temporary)

    published = [Choice.read(file) for file in sorted(args.published.glob("*/*.yaml"))]
    content = adopted(args.scale, published)
    with atomic_write(args.target) as temporary:
        temporary.write_text(content, encoding="utf-8")
    print(content)


def is_current(choice: Choice, grid: Grid) -> bool:
    """Return True if a choice is among the candidates, and from the settings and base models, of the configuration."""
    name = f"{choice.method}/{choice.task}"
    return name in grid.tuning and choice.runs == grid.tuning_digest(name)


def adopted(scale: str, choices: list[Choice]) -> str:
    """Return the text of the settings file with the chosen settings of each method and task."""
    methods: dict[str, Any] = {}
    for choice in choices:
        methods.setdefault(choice.method, {"by_task": {}})["by_task"][choice.task] = choice.chosen.settings
    settings = {"scales": {scale: {"methods": methods}}}
    return HEADER.format(scale=scale) + yaml.safe_dump(settings, sort_keys=True, width=120)


if __name__ == "__main__":
    run_step(main)
