"""The benchmark runs, and counts what it says it counts."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

from syncs import HostSyncs

VALUES = torch.arange(6.0)
MASK = VALUES > 2


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: VALUES.sum().item(), 1),
        (lambda: float(VALUES.sum()) + int(VALUES[0]) + bool(MASK.any()), 3),
        (lambda: VALUES.tolist(), 1),
        (lambda: VALUES[MASK], 1),
        (lambda: MASK.nonzero(), 1),
        (lambda: torch.where(MASK), 1),
        (lambda: VALUES[[1, 2]], 1),
        (lambda: VALUES.clone().__setitem__([1, 2], 0.0), 1),
        (lambda: torch.tensor([1, 2]), 1),
        (lambda: VALUES.clone().__setitem__(MASK, VALUES[:3]), 1),
        (lambda: VALUES.clone().__setitem__(MASK, 0.0), 0),
        (lambda: VALUES[torch.arange(2)] + VALUES[:2] + VALUES[3], 0),
        (lambda: torch.where(MASK, VALUES, 0).masked_fill(MASK, 1).softmax(0), 0),
    ],
)
def test_host_synchronisations_are_counted(call, expected):
    with HostSyncs() as syncs:
        call()
    assert sum(syncs.calls.values()) == expected


@pytest.mark.parametrize("only", ["V512 DMPO", "V512 mixed"])
def test_quick_benchmark_finds_both_sides_equal(tmp_path, only):
    out = tmp_path / "bench.json"
    command = [sys.executable, ROOT / "bench/run.py", "--quick", "--repeats", "1", "--only", only, "--out", out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    (name, cell), *others = json.loads(out.read_text())["cells"].items()
    assert not others
    assert name.startswith(only)
    assert cell["equal"]
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in cell["seconds"].values())
    assert f"| {name}" in printed
