"""Copy the chosen settings of a finished tuning to workflow/config/tuned/SCALE.yaml, where the workflow reads them.

python src/adopt_tuning.py results/laptop/tuning workflow/config/tuned/laptop.yaml --scale laptop
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from unmask.analysis.tuning import Choice
from unmask.common.atomic import atomic_write
from unmask.common.errors import InputError, run_step

HEADER = """\
# Settings of scale `{scale}` that were chosen by `snakemake --profile {scale} tune`, written by `make adopt-tuning`.
# The candidates and their scores are in docs/results/tuning; a test derives this file from them.

"""


def main() -> None:
    """Write the file. Raises InputError if there is no finished tuning."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tuning", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--scale", required=True)
    args = parser.parse_args()

    files = sorted(args.tuning.glob("*/*.yaml"))
    if not files:
        raise InputError(f"{args.tuning}: no finished tuning; run `snakemake --profile {args.scale} tune` first")
    content = adopted(args.scale, [Choice.read(file) for file in files])
    with atomic_write(args.target) as temporary:
        temporary.write_text(content, encoding="utf-8")
    print(content)


def adopted(scale: str, choices: list[Choice]) -> str:
    """Return the text of the settings file with the chosen settings of each method and task."""
    methods: dict[str, Any] = {}
    for choice in choices:
        methods.setdefault(choice.method, {"by_task": {}})["by_task"][choice.task] = choice.chosen.settings
    settings = {"scales": {scale: {"methods": methods}}}
    return HEADER.format(scale=scale) + yaml.safe_dump(settings, sort_keys=True, width=120)


if __name__ == "__main__":
    run_step(main)
