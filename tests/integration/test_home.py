"""Where HOME cannot be written: make moves the caches, and Snakemake and the steps run."""

import os
import subprocess
from pathlib import Path

import pytest

from helpers.paths import ROOT

NOWHERE = "/proc/none"  # cannot be made, not even by root
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="no folder that nobody can write")


def caches(tmp_path, **environment):
    """The folders for caches that make gives its commands."""
    asking = f'include {ROOT}/Makefile\ncaches:\n\t@echo "$$XDG_CACHE_HOME:$$MPLCONFIGDIR"\n'
    (tmp_path / "asking.mk").write_text(asking)
    base = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "MPLCONFIGDIR")}
    command = ["make", "-s", "-C", tmp_path, "-f", "asking.mk", "caches"]
    return subprocess.run(command, env=base | environment, capture_output=True, text=True, check=True).stdout.strip()


def test_make_moves_the_caches_only_where_home_cannot_be_written(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    assert caches(tmp_path, HOME=str(home)) == ":"
    assert caches(tmp_path, HOME=NOWHERE) == f"{tmp_path}/.cache:{tmp_path}/.cache/matplotlib"
    assert caches(tmp_path, HOME=NOWHERE, XDG_CACHE_HOME="/x") == f"/x:{tmp_path}/.cache/matplotlib"


def test_snakemake_starts_with_the_caches_that_make_gives(tmp_path):
    moved = {"HOME": NOWHERE, "XDG_CACHE_HOME": f"{tmp_path}/.cache", "MPLCONFIGDIR": f"{tmp_path}/.cache/matplotlib"}
    command = ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", tmp_path, "--cores", "1", "-n"]
    command += ["--configfile", ROOT / "config.yaml", "--config", "scale=smoke", "--"]
    command += ["results/smoke/data/sudoku/train.parquet"]
    ended = subprocess.run(command, env=os.environ | moved, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
