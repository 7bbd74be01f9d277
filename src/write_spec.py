"""Freeze the settings of one run, model, dataset or evaluation in its spec.yaml.

python src/write_spec.py DataSpec '{"task": "sudoku", "settings": {…}}' results/laptop/data/sudoku/spec.yaml
"""

import json
import sys
from pathlib import Path

from unmask import spec
from unmask.files import run_step


def main() -> None:
    """Write the spec that the command line describes."""
    kind, values, path = sys.argv[1:]
    getattr(spec, kind)(**json.loads(values)).write(Path(path))


if __name__ == "__main__":
    run_step(main)
