"""A refactor leaves every spec's digest as it was: the hashes over all of them, per scale and fidelity."""

import copy
import hashlib

import pytest
import yaml

from helpers.paths import ROOT
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

BEFORE = yaml.safe_load((ROOT / "tests/data/before_the_move.yaml").read_text(encoding="utf-8"))["spec_digests"]


@pytest.mark.parametrize("choice", BEFORE)
def test_specs_are_as_before_the_move(choice, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # local data files, which `make data` fetches, count by their content
    raw = load_config()
    scale, fidelity = choice.split()
    grid = expand(copy.deepcopy(raw) | {"scale": scale, "fidelity": fidelity})
    digests = {name: spec.digest for name, spec in grid.specs.items()}
    overall = hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()[:16]
    assert f"{len(digests)} {overall}" == BEFORE[choice]
