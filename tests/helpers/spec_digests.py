"""Hashes over the digests of all specs, per scale and fidelity.

PYTHONPATH=src:tests python -m helpers.spec_digests     # write tests/data/spec_digests.yaml anew, from an empty folder
"""

import hashlib
import os
import tempfile

import yaml

from helpers.paths import ROOT
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

REFERENCE = ROOT / "tests/data/spec_digests.yaml"
HEADER = """\
# Number of specs, and a hash over their digests. A line that changes means that finished runs of that scale and
# fidelity are trained again: change settings on purpose only, then write this file with
# `PYTHONPATH=src:tests python -m helpers.spec_digests`.
"""


def choices(config):
    """Every scale with every fidelity, as `scale fidelity`."""
    return [f"{scale} {fidelity}" for scale in config["scales"] for fidelity in config["fidelities"]]


def overall(choice):
    """The number of specs of a scale and fidelity, and a hash over all of their digests."""
    scale, fidelity = choice.split()
    grid = expand(load_config() | {"scale": scale, "fidelity": fidelity})
    digests = sorted((name, spec.digest) for name, spec in grid.specs.items())
    return f"{len(digests)} {hashlib.sha256(repr(digests).encode()).hexdigest()[:16]}"


def main():
    """Write the file; local data files, which `make data` fetches, count by their content, so none may be there."""
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        found = {choice: overall(choice) for choice in choices(load_config())}
        os.chdir(ROOT)
    REFERENCE.write_text(HEADER + yaml.safe_dump(found, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
