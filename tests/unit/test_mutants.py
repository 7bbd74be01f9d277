"""The list of mutants fits the sources: each text is there once and each test exists. `make mutants` runs them."""

import importlib.util
import subprocess
import sys
from collections import Counter

from helpers.paths import ROOT

FILE = ROOT / "tests" / "mutants" / "run.py"
spec = importlib.util.spec_from_file_location("mutants_run", FILE)
run = importlib.util.module_from_spec(spec)
sys.modules["mutants_run"] = run
spec.loader.exec_module(run)
MUTANTS = run.load()


def test_every_mutant_fits_the_sources():
    assert [line for mutant in MUTANTS for line in mutant.mistakes()] == []


def test_every_mutant_has_a_name_of_its_own_and_changes_something():
    assert [what for what, count in Counter(mutant.what for mutant in MUTANTS).items() if count > 1] == []
    assert [mutant.what for mutant in MUTANTS if mutant.old == mutant.new] == []
    changes = Counter((mutant.file, mutant.old, mutant.new) for mutant in MUTANTS)
    assert max(changes.values()) == 1


def test_what_does_not_fit_is_named():
    wrong = run.Mutant(
        "w", "src/unmask/common/seeding.py", "self", "x", "tests/unit/training/test_loop.py::test_that_is_not_there"
    )
    assert [line.startswith("w: ") for line in wrong.mistakes()] == [True, True]


def test_only_a_failed_test_kills():
    """A test that cannot run, or that is not there, is no proof."""
    assert [run.verdict(code) for code in (0, 1, 2, 4, 5, -11, None)] == [
        "SURVIVED", "killed", "NOT RUN", "NOT RUN", "NOT RUN", "NOT RUN", "killed (time)",
    ]  # fmt: skip


def test_a_mutant_is_in_the_copy_and_taken_out_again(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n", encoding="utf-8")
    with run.applied(run.Mutant("w", "a.py", "x = 1", "x = 2", ""), tmp_path):
        assert (tmp_path / "a.py").read_text(encoding="utf-8") == "x = 2\n"
    assert (tmp_path / "a.py").read_text(encoding="utf-8") == "x = 1\n"
    assert run.try_one(run.Mutant("w", "a.py", "y", "z", ""), tmp_path)[0] == "NOT RUN"


def test_a_mutant_is_killed_from_the_command_line():
    """One that a quick test is for; the sources stay as they are."""
    mutant = next(mutant for mutant in MUTANTS if mutant.test == "tests/unit/rl/test_losses.py::test_k3_is_its_formula")
    before = (ROOT / mutant.file).read_bytes()
    command = [sys.executable, FILE, "--only", mutant.what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 killed" in done.stdout
    assert (ROOT / mutant.file).read_bytes() == before
