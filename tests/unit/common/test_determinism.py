"""UNMASK_DETERMINISTIC: every step reads it, torch obeys it, and on a CPU it changes no bit of a training run."""

import os
import re
import subprocess
import sys

import pytest
import torch

from helpers.paths import ROOT
from helpers.small_trainer import same, sudoku_trainer, trained
from unmask.common import determinism
from unmask.common.determinism import CHOICE, WORKSPACE, fix_order, running_sum
from unmask.common.errors import InputError

SOURCES = sorted((ROOT / "src").rglob("*.py"))
# A step in a process of its own; `put_` has no deterministic version on any device.
STEP = """
import os, torch
from unmask.common.determinism import fix_order
fix_order()
try:
    torch.zeros(3).put_(torch.tensor([1]), torch.tensor([7.0]))
    print("put", os.environ.get("CUBLAS_WORKSPACE_CONFIG"), torch.get_num_threads())
except RuntimeError as error:
    known = "does not have a deterministic implementation" in str(error)
    print("refused", os.environ["CUBLAS_WORKSPACE_CONFIG"], known)
"""


@pytest.fixture
def torch_as_before():
    yield
    torch.use_deterministic_algorithms(False)


def outcome(**environment):
    clean = {name: value for name, value in os.environ.items() if name not in (CHOICE, WORKSPACE)}
    done = subprocess.run(
        [sys.executable, "-c", STEP], env=clean | {"PYTHONPATH": str(ROOT / "src")} | environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_torch_refuses_what_is_not_deterministic_only_if_asked():
    assert outcome() == ["put", "None", "1"]
    assert outcome(**{CHOICE: "0"}) == ["put", "None", "1"]
    assert outcome(**{CHOICE: "1"}) == ["refused", ":4096:8", "True"]
    assert outcome(**{CHOICE: "1", WORKSPACE: ":16:8"}) == ["refused", ":16:8", "True"]


@pytest.mark.parametrize("value", ["true", "yes", "", "2"])
def test_another_value_is_refused(monkeypatch, value):
    monkeypatch.setenv(CHOICE, value)
    with pytest.raises(InputError, match=r"UNMASK_DETERMINISTIC: .* is neither 0 nor 1"):
        fix_order()


def test_running_sums_work_in_both_modes_and_leave_the_mode(monkeypatch, torch_as_before):
    values = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.25, 0.125]])
    by_hand = torch.tensor([[1.0, 3.0, 6.0], [0.5, 0.75, 0.875]], dtype=torch.float64)
    assert torch.equal(running_sum(values, 1, torch.float64), by_hand)
    assert torch.equal(running_sum(values, 1), by_hand.float())

    warned, plain = [], torch.Tensor.cumsum
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda *words, **more: (
        warned.append(torch.is_deterministic_algorithms_warn_only_enabled()) or plain(*words, **more)
    ))  # fmt: skip
    torch.use_deterministic_algorithms(True)
    assert torch.equal(running_sum(values, 1, torch.float64), by_hand)
    assert warned == [True]  # torch would raise an error on a GPU otherwise
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


def test_sums_of_floats_that_torch_would_refuse_all_go_through_running_sum():
    found = {}
    for file in SOURCES:
        calls = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if ".cumsum(" in line]
        floats = [call for call in calls if ".long().cumsum(" not in call]
        if floats and file.name != "determinism.py" and "analysis" not in file.parts:  # analysis is numpy and pandas
            found[file.name] = floats
    assert found == {}


def test_every_step_that_computes_fixes_the_order():
    for file in sorted((ROOT / "src").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        computes = re.search(r"^from unmask\.models\.(policy|tabular) import", text, re.MULTILINE)
        assert bool(computes) <= ("fix_order()" in text), file.name
    assert not [
        file.name for file in SOURCES if "set_num_threads" in file.read_text() and file.name != "determinism.py"
    ]


def test_on_a_cpu_no_bit_of_a_training_run_changes(config, make_policy, sudoku, tmp_path, monkeypatch, torch_as_before):
    # A reward that an untrained model earns now and then.
    monkeypatch.setattr(type(sudoku), "reward", lambda _, text, example: {"digits": sum(map(str.isdigit, text)) / 50})
    weights = []
    for choice in ("0", "1"):
        monkeypatch.setenv(CHOICE, choice)
        determinism.fix_order()
        assert torch.are_deterministic_algorithms_enabled() == (choice == "1")
        weights.append(trained(sudoku_trainer(config, make_policy(), sudoku, tmp_path / choice)))
    assert same(*weights)
