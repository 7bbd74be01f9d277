"""What is said before the first job where SLURM is missing, or cannot say how jobs have ended."""

import os
import subprocess

import pytest

from helpers.paths import ROOT
from unmask.planning.slurm_probe import slurm_lacks


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Puts commands of SLURM into a folder that is the whole of PATH but for the shell."""

    def put(**texts):
        for name, text in texts.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
            (tmp_path / name).chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    return put


def test_no_sbatch_is_one_line(commands):
    assert slurm_lacks("sacct", 40).startswith("sbatch is not on this machine: start snakemake on a login node")


def test_accounting_that_answers_is_enough(commands):
    commands(sbatch="exit 0", sacct="exit 0")
    assert slurm_lacks("sacct", 40) is None
    assert slurm_lacks(None, 40) is None


def test_sacct_without_accounting_is_named_with_the_other_way(commands):
    commands(sbatch="exit 0", sacct="echo 'Slurm accounting storage is disabled' >&2; exit 1")
    said = slurm_lacks("sacct", 40)
    assert said.startswith("sacct does not answer (Slurm accounting storage is disabled), so no job would ever")
    assert said.endswith("--slurm-status-command squeue")
    commands(sacct="exit 1")
    assert "sacct does not answer (no error message)" in slurm_lacks("sacct", 40)


@pytest.mark.parametrize(("age", "said"), [(300, None), (120, None), (119, "to 39 or less"), (6, "to 2 or less")])
def test_squeue_must_remember_jobs_until_they_are_asked_for(commands, age, said):
    commands(sbatch="exit 0", scontrol=f"echo 'MessageTimeout = 10 sec'; echo 'MinJobAge               = {age} sec'")
    found = slurm_lacks("squeue", 40)
    assert found is said is None or found.endswith(said)
    commands(scontrol="echo 'no contact' >&2; exit 1")
    assert slurm_lacks("squeue", 40).startswith("scontrol does not answer (no contact)")


def test_a_start_is_refused_and_a_dry_run_is_not(tmp_path):
    for name, text in {"sbatch": "exit 0", "sacct": "echo 'no accounting' >&2; exit 1"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = ["snakemake", "--profile", ROOT / "workflow/profiles/slurm", "-s", ROOT / "Snakefile"]
    words += ["--directory", tmp_path, "--config", "scale=smoke", "--", "exact_toy"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sacct does not answer (no accounting)" in done.stdout + done.stderr
    assert not (tmp_path / "results").exists()
    done = subprocess.run([*words[:-4], "-n", *words[-4:]], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
