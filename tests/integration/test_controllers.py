"""Two workflows started in one folder: the second says that the folder is taken, and the first ends as if alone."""

import subprocess
import time

from helpers.paths import ROOT
from unmask.common.checksums import verify_checksums
from unmask.common.manifest import read_manifest

RUN = "results/smoke/runs/dmpo/sudoku/default/seed-0"


def start(folder):
    command = ["snakemake", "--profile", ROOT / "workflow/profiles/smoke", "-s", ROOT / "Snakefile"]
    command += ["--directory", folder, "--", f"{RUN}/adapter"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_second_controller_changes_nothing(tmp_path):
    first = start(tmp_path)
    while not list(tmp_path.glob(".snakemake/locks/*")):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    second = start(tmp_path)
    said, _ = second.communicate(timeout=300)
    assert second.returncode != 0
    assert "LockException" in said
    assert "Directory cannot be locked" in said
    output, _ = first.communicate(timeout=600)
    assert first.returncode == 0, output
    verify_checksums(tmp_path / RUN / "adapter")
    manifest = read_manifest(tmp_path / RUN / "manifest.json")
    assert manifest["seed"] == 0
    assert {path.name for path in (tmp_path / RUN).iterdir()} == {
        "adapter",
        "metrics.csv",
        "manifest.json",
        "spec.yaml",
    }
