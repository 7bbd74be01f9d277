"""Released checkpoints through the workflow and by hand: planned at the papers' scale, run on planted ones."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from helpers.paths import ROOT
from helpers.planted_checkpoints import plant, write_adapter
from helpers.published_checkpoints import write_puzzle_checkpoint
from helpers.workflow import snakemake
from unmask.common.parquet import read_rows
from unmask.config.loading import load_config

pytestmark = pytest.mark.usefixtures("no_network")


def test_the_catalogue_is_planned_with_hours(tmp_path):
    """`snakemake --profile slurm -n checkpoints`, once revisions are pinned and d1's test sets are there."""
    code, said = snakemake(tmp_path, "-n", "checkpoints", profile="slurm")
    assert code != 0
    assert "checkpoints.espo-countdown.revision: 'to be pinned' is not a commit of GSAI-ML/ESPO-Countdown" in said

    (tmp_path / "data/countdown").mkdir(parents=True)
    (tmp_path / "data/sudoku").mkdir()
    (tmp_path / "data/countdown/test.jsonl").write_text('{"input": "1,2,3", "output": "6"}\n' * 256)
    (tmp_path / "data/sudoku/test.csv").write_text("Puzzle,Solution\n" + "1,1\n" * 256)
    names = load_config()["checkpoints"]
    pinned = {"checkpoints": {name: {"revision": "0" * 40} for name in names}}
    (tmp_path / "pinned.yaml").write_text(json.dumps(pinned))
    code, said = snakemake(
        tmp_path, "--configfile", str(tmp_path / "pinned.yaml"), "-n", "checkpoints", profile="slurm"
    )
    assert code == 0, said
    (total,) = [line for line in said.splitlines() if "GPU-hours in all" in line]
    assert total.startswith("14 checkpoints, each with its base model: about ")
    hours = [line.split()[-2] for line in said.splitlines() if line.endswith(" GPU-h")]
    assert len(hours) == 18  # pairs of checkpoint and task
    assert all(float(one) > 0.1 for one in hours)
    counts = {line.split()[0]: line.split()[1] for line in said.splitlines() if len(line.split()) == 2}
    assert (counts["prepare_checkpoint"], counts["evaluate_checkpoint"], counts["render_checkpoints"]) == (
        "14",
        "18",
        "1",
    )


@pytest.mark.slow
def test_planted_checkpoints_run_to_the_table(tmp_path):
    """At the smoke scale: all of `checkpoints`, nothing again, and one by name."""
    (tmp_path / "planted.yaml").write_text(json.dumps(plant(tmp_path / "elsewhere")))
    more = ["--configfile", str(tmp_path / "planted.yaml")]
    code, said = snakemake(tmp_path, *more, "checkpoints")
    assert code == 0, said
    root = tmp_path / "results/smoke"
    table = (root / "tables/released_checkpoints.md").read_text(encoding="utf-8")
    assert "81.6; 79.0 (steps not stated)" in table
    assert table.count("## Planted on Countdown") == 4
    for name in ("planted-adapter-llada", "planted-full-dream"):
        rows = read_rows(root / f"checkpoints/{name}/countdown/samples.parquet")
        assert set(rows.method) == {"base", name}
        text = rows.pivot(index=["sampler", "length", "example"], columns="method", values="completion")
        assert (text["base"] != text[name]).any()  # what is not loaded would answer like the base model

    code, said = snakemake(tmp_path, *more, "-n", "checkpoints")
    assert code == 0, said
    assert "Nothing to be done" in said
    code, said = snakemake(tmp_path, *more, "checkpoints/planted-adapter-llada")
    assert code == 0, said
    assert (root / "checkpoints/planted-adapter-llada/table.csv").exists()


def test_by_hand_without_the_workflow(tmp_path):
    """The step fetches nothing here: two local folders, problems of the smoke scale; and refuses what is wrong."""
    write_puzzle_checkpoint(tmp_path / "base", "llada")
    write_adapter(tmp_path / "adapter", tmp_path / "base")

    def evaluate(*words):
        command = [sys.executable, str(ROOT / "src/evaluate_checkpoint.py"), *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)

    usual = ["--base", tmp_path / "base", "--task", "countdown", "--scale", "smoke", "--examples", "3"]
    done = evaluate(tmp_path / "adapter", *usual, "--lengths", "24", "--steps", "L", "L/2", "--samples", "out.parquet")
    assert done.returncode == 0, done.stderr
    assert "Gain, published" in done.stdout
    rows = read_rows(tmp_path / "out.parquet")
    assert len(rows) == 2 * 2 * 3
    assert set(zip(rows.method, rows.sampler, strict=True)) == {
        (method, sampler) for method in ("base", "checkpoint") for sampler in ("top1", "top2")
    }
    assert isinstance(rows, pd.DataFrame)
    assert not (tmp_path / "out.parts").exists()

    done = evaluate(tmp_path / "adapter", *usual, "--lengths", "25")
    assert done.returncode == 1
    assert "--lengths: 25 is no multiple of the block length 8 of smoke" in done.stderr
    (tmp_path / "adapter/adapter_model.safetensors").rename(tmp_path / "adapter/adapter_model.bin")
    done = evaluate(tmp_path / "adapter", *usual, "--lengths", "24")
    assert done.returncode == 1
    assert "weights_only=True" in done.stderr
