"""kill -9 at any moment: what bears a final name is whole, and the next start ends in the same result, byte by byte."""

import os
import random
import shutil
import signal

import pytest

from helpers import steps
from unmask.common.checksums import verify_checksums

KILLS = int(os.environ.get("UNMASK_KILLS", "3"))  # of each step


@pytest.mark.parametrize("kill", range(KILLS))
@pytest.mark.parametrize("name", steps.NAMES)
def test_a_killed_step_leaves_whole_files_and_the_next_start_the_same_result(made, tmp_path, name, kill):
    (folder, ended), rng = made, random.Random(f"{name} {kill}")
    whole, out = steps.results(folder / name), tmp_path / "out"
    if kill % 3 == 2:  # made already, and made again
        shutil.copytree(folder / name, out)
    if kill % 2:
        killed = steps.run(name, folder, out, kill_after=rng.random() * ended[name].seconds)
        assert killed.code in (-signal.SIGKILL, 0)  # it may have been faster this time
    else:
        moment = rng.randint(1, ended[name].files)
        assert steps.run(name, folder, out, kill_at_file=moment).code == -signal.SIGKILL
    found = steps.results(out)
    assert found == {file: whole.get(file) for file in found}
    for sealed in ("adapter/", "weights/"):  # all of it or nothing
        assert {n for n in found if n.startswith(sealed)} in (set(), {n for n in whole if n.startswith(sealed)})
    for checkpoint in out.glob("checkpoints/step-*"):
        verify_checksums(checkpoint)
    again = steps.run(name, folder, out)
    assert again.code == 0, again.said
    assert steps.results(out) == whole
    left = {path.name for path in out.rglob("*")} - {path.name for path in (folder / name).rglob("*")}
    assert not left
