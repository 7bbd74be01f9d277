"""Freeze the settings of one run, model, dataset or evaluation in its spec.yaml.

python src/write_spec.py DataSpec '{"task": "sudoku", "settings": {…}}' results/laptop/data/sudoku/spec.yaml
"""

import argparse
import json
from pathlib import Path

from unmask import spec
from unmask.files import run_step

KINDS = [kind.__name__ for kind in spec.Spec.__subclasses__()]


def main() -> None:
    """Write the spec that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("values", type=json.loads, help="the spec's fields as JSON")
    parser.add_argument("path", type=Path)
    args = parser.parse_args()
    getattr(spec, args.kind)(**args.values).write(args.path)


if __name__ == "__main__":
    run_step(main)
