"""The garbage collector waits for the imports of a step, and only for those."""

import subprocess
import sys

import pytest

from helpers.paths import ROOT

CODE = """
import gc, sys
sys.argv = [sys.argv[1]]
import unmask
from unmask.common.errors import run_step
print(gc.isenabled(), end=" ")
run_step(lambda: print(gc.isenabled(), gc.get_freeze_count() > 0))
"""


@pytest.mark.parametrize(
    ("program", "found"),
    [(ROOT / "src/train_policy.py", "False True True"), ("notebook.py", "True True False")],
)
def test_it_runs_in_the_main_of_a_step_and_in_other_programs(program, found):
    done = subprocess.run([sys.executable, "-c", CODE, program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == found.split()
