"""Digests of all specs, per scale and fidelity, since before the packages were formed.

Settings were renamed once, and `activation_checkpointing` left the specs. Under the old names every digest is the one
from before, which shows that nothing but keys has changed.
"""

import copy
import hashlib

import pytest
import yaml

from helpers.old_layout import old_specs
from helpers.paths import ROOT
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config
from unmask.config.spec_file import digest_of_values

REFERENCE = yaml.safe_load((ROOT / "tests/data/before_the_move.yaml").read_text(encoding="utf-8"))
ADDED = ("straight_line", "mbpp", "humaneval")  # tasks since then; what they add may change nothing else
BEFORE, NOW = REFERENCE["spec_digests"], REFERENCE["renamed_spec_digests"]


@pytest.mark.parametrize("choice", BEFORE)
def test_under_the_old_names_specs_are_as_before_the_move(choice, monkeypatch, tmp_path):
    grid = chosen(choice, monkeypatch, tmp_path)
    assert overall({name: digest_of_values(values) for name, values in old_specs(grid).items()}) == BEFORE[choice]


@pytest.mark.parametrize("choice", BEFORE)
def test_specs_are_as_since_the_renames(choice, monkeypatch, tmp_path):
    grid = chosen(choice, monkeypatch, tmp_path)
    assert overall({name: spec.digest for name, spec in grid.specs.items()}) == NOW[choice]


def chosen(choice, monkeypatch, tmp_path):
    """The grid of a scale and a fidelity."""
    monkeypatch.chdir(tmp_path)  # local data files, which `make data` fetches, count by their content
    scale, fidelity = choice.split()
    return expand(copy.deepcopy(load_config()) | {"scale": scale, "fidelity": fidelity})


def overall(digests):
    """The number of digests of the tasks of that time, and a hash over all of them."""
    digests = {place: digest for place, digest in digests.items() if not set(ADDED) & set(place.split("/"))}
    return f"{len(digests)} {hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()[:16]}"
