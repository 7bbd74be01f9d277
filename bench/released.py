"""`make bench-released DIR=…`: released code next to ours, on the same weights and prompts.

DIR is a checkout of DMPO or of d1 that the user provides; released_code.py says which of its functions are called.
Cells and measurements are those of run.py, with the released code in place of the textbook: each side is its own
single-threaded process, they take turns, times are CPU seconds, and memory is what the work adds to the loaded model.
Tokens of greedy decoding are compared, and of the loss its value and the norms of its gradients.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pandas as pd

from released_code import commit_of, kind_of
from run import DECODING, FULL, QUICK, TEMPERATURE, Job, measure, time_ratio
from unmask.common.atomic import atomic_write

SIDES = ("released", "ours")


def cells(scale: Job, folder: Path) -> dict[str, Job]:
    """Return the measured jobs by name, as in run.py; d1 has neither a cache nor this loss."""
    works = {
        "uncached step": DECODING | {"tokens_per_step": scale["block"]},
        "prefix cache, whole generation": DECODING | {"cache": "prefix"},
        "dual cache, whole generation": DECODING | {"cache": "dual"},
        "DMPO loss and gradient": {"work": "loss", "rows": 2},
    }
    if kind_of(folder) == "d1":
        works = {"uncached step": works["uncached step"]}

    shape = {key: scale[key] for key in ("body", "prompt", "length", "block")} | {"temperature": TEMPERATURE}
    shape |= {"released": str(folder)}
    return {
        f"V{vocabulary} {name}": shape | work | {"vocabulary": vocabulary}
        for vocabulary in scale["vocabularies"]
        for name, work in works.items()
    }


def row(name: str, found: Job) -> dict[str, str]:
    """Format one row of the table."""
    seconds = found["seconds"]
    memory = found["megabytes"]
    return {
        "work": name,
        "CPU seconds": " / ".join(f"{median(seconds[side]):.3g}" for side in SIDES),
        "time ratio": f"{time_ratio(found):.2f}",
        "peak MB": " / ".join(f"{memory[side]:.0f}" for side in SIDES),
        "memory ratio": f"{memory['released'] / max(memory['ours'], 1):.1f}",
        "equal": "yes" if found["equal"] else "NO",
    }


def main() -> None:
    """Measure all selected cells, write and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="checkout of DMPO or of d1")
    parser.add_argument("--quick", action="store_true", help="use a much smaller body, only to see that it runs")
    parser.add_argument("--only", default="", help="only cells whose name contains this text")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of timed turns")
    parser.add_argument("--out", type=Path, default=Path("results/bench/released.json"))
    options = parser.parse_args()
    folder = options.folder.resolve()
    try:
        kind = kind_of(folder)
    except ValueError as error:
        sys.exit(f"bench/released.py: {error}")

    found = {}
    for name, job in cells(QUICK if options.quick else FULL, folder).items():
        if options.only in name:
            print(f"{name} …", file=sys.stderr, flush=True)
            found[name] = measure(job, options.repeats, SIDES)
    if not found:
        parser.error(f"no cell name contains {options.only!r}; leave out --only to see all")

    commit = commit_of(folder)
    versions = {name: version(name) for name in ("torch", "transformers", "peft")}
    record = {"released": kind, "commit": commit, "quick": options.quick, "repeats": options.repeats}
    record |= versions | {"python": platform.python_version(), "machine": platform.machine(), "cells": found}
    with atomic_write(options.out) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"Released code of {kind}{f' at {commit[:7]}' if commit else ''} / ours in each cell.\n")
    rows = [row(name, cell) for name, cell in found.items()]
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
