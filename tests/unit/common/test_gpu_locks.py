"""Two jobs on one machine never have the same GPU, and a job that ends, however, gives its GPUs back."""

import os
import signal
import subprocess
import sys
import time

import pytest

from helpers.paths import ROOT
from unmask.common import gpu_locks
from unmask.common.errors import InputError

# Takes GPUs, becomes another program as src/launch.py does, and says which GPUs that one sees.
SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[2])
from unmask.common.gpu_locks import take_cards
take_cards(int(sys.argv[1]))
os.execvp("sh", ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES; read line"])
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine with four GPUs that nobody else uses."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(gpu_locks.tempfile, "tempdir", None)
    monkeypatch.setenv(gpu_locks.COUNT, "4")
    monkeypatch.delenv(gpu_locks.VISIBLE, raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    yield
    gpu_locks.tempfile.tempdir = None


def start(gpus):
    command = [sys.executable, "-c", SCRIPT, str(gpus), str(ROOT / "src")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def seen(job):
    return set(job.stdout.readline().strip().split(","))


def test_jobs_share_no_gpu_and_give_theirs_back_when_killed():
    first, second = start(3), start(1)
    mine, its = seen(first), seen(second)
    assert (len(mine), len(its)) == (3, 1)
    assert mine | its == {"0", "1", "2", "3"}
    third = start(2)
    assert third.stdout.readline() == "waiting for 2 of the GPUs 0, 1, 2, 3, held by other jobs\n"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert seen(third) < mine
    for job in (second, third):
        job.communicate("\n", timeout=60)


def test_what_the_workflow_was_shown_is_what_it_lends(monkeypatch):
    monkeypatch.setenv(gpu_locks.VISIBLE, "GPU-a,GPU-b,GPU-c,GPU-d,GPU-e")
    assert gpu_locks.take_cards(2) == ["GPU-a", "GPU-b"]
    assert os.environ[gpu_locks.VISIBLE] == "GPU-a,GPU-b"
    with pytest.raises(InputError, match="gpu=4, but CUDA_VISIBLE_DEVICES lists 2"):
        gpu_locks.take_cards(1)


def test_more_than_there_are_is_refused_and_not_waited_for():
    began = time.monotonic()
    with pytest.raises(InputError, match="5 GPUs requested for a job, but this machine has 4"):
        gpu_locks.take_cards(5)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("name", ["SLURM_JOB_ID", None])
def test_slurm_and_other_profiles_are_left_alone(monkeypatch, name):
    if name:
        monkeypatch.setenv(name, "7")
    else:
        monkeypatch.delenv(gpu_locks.COUNT)
    assert gpu_locks.take_cards(2) == []
    assert gpu_locks.VISIBLE not in os.environ


def test_the_profile_gives_each_job_gpus_of_its_own(tmp_path):
    """Through the workflow: a job's processes see one GPU, and the variable is set by nobody else."""
    profile = tmp_path / "profile.yaml"
    text = (ROOT / "workflow/profiles/multi-gpu/profile.yaml").read_text(encoding="utf-8")
    profile.write_text(text.replace("configfile: scale.yaml", ""), encoding="utf-8")
    words = ["--config", "scale=smoke", "--", "results/smoke/runs/base/sudoku/default/seed-0/samples-papers.parquet"]
    command = ["snakemake", "--profile", profile, "-s", ROOT / "Snakefile", "--directory", tmp_path, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = tmp_path.glob("unmask-cards-*")
    assert [path.name for path in folder.iterdir()] == ["0"]
