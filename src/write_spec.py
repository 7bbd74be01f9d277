"""Freeze the settings of one run, model, dataset, evaluation, diagnosis or toy experiment in a spec.yaml.

python src/write_spec.py DataSpec '{"task": "sudoku", "settings": {…}}' results/laptop/data/sudoku/spec.yaml
"""

import argparse
import json
from pathlib import Path

from unmask.common.errors import run_step
from unmask.config import specs

KINDS = [kind.__name__ for kind in specs.Spec.__subclasses__()]


def main() -> None:
    """Write the spec given as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("values", type=json.loads, help="fields of the spec as JSON")
    parser.add_argument("path", type=Path)
    args = parser.parse_args()
    getattr(specs, args.kind).of(args.values).write(args.path)


if __name__ == "__main__":
    run_step(main)
