"""What `plan` says of the whole: days, jobs, disk and the price of other fidelities; printed once and at once."""

import math
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from safetensors import safe_open

from helpers.paths import ROOT
from unmask.config.grid.expand import expand
from unmask.planning.estimates import Estimate
from unmask.planning.outlook import BYTES, amount, days, disk, gpus_in, gpus_of_cluster, jobs_to_go
from unmask.planning.status import RunStatus

DMPO, BASE = "dmpo/sudoku/default/seed-0", "base/sudoku/default/seed-0"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def large(config):
    return expand(config | {"scale": "llada-8b"})


def put_command(folder, monkeypatch, name, text):
    """A command of SLURM that says something."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize(
    ("gres", "count"),
    [("gpu:h100:8(S:0-1)", 8), ("gpu:4", 4), ("gpu:a:2,gpu:b:1,shard:9", 3), ("(null)", 0), ("mps:100", 0)],
)
def test_gpus_are_counted_as_slurm_writes_them(gres, count):
    assert gpus_in(gres) == count


def test_days_are_those_of_a_job_and_of_the_cluster(large, tmp_path, monkeypatch):
    costs = [Estimate("a", {}, 100.0, 92.0, 0.0, 192.0)]
    put_command(tmp_path, monkeypatch, "sinfo", "echo 'n1|gpu:h100:8'; echo 'n1|gpu:h100:8'; echo 'n2|gpu:h100:8(S:0)'")
    assert gpus_of_cluster() == 16  # n1 is in two partitions
    assert days(costs, large) == (
        "days if no GPU ever idles: about 1.0 on 8 (scales.llada-8b.cost.gpus), 0.5 on the cluster's 16, as sinfo "
        "counts them"
    )
    put_command(tmp_path, monkeypatch, "sinfo", "exit 1")
    assert days(costs, large).endswith("about 1.0 on 8 (scales.llada-8b.cost.gpus)")


def test_jobs_to_go_are_those_that_nothing_has_made(grid):
    evaluations = {BASE: ["papers"], DMPO: ["papers"]}
    found = {DMPO: RunStatus(DMPO, "to do", 0, 4, 0.0)}
    assert jobs_to_go(grid, evaluations, found) == "jobs left: 4 (1 base models, 1 training runs, 2 evaluations)"
    for name in (f"results/smoke/runs/{run}/samples-papers.parquet" for run in evaluations):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
    Path("results/smoke/models", grid.runs[DMPO].model, "weights").mkdir(parents=True)
    done = {DMPO: RunStatus(DMPO, "done", 4, 4, 0.0)}
    assert jobs_to_go(grid, evaluations, done) == "jobs left: 0"


def test_disk_at_the_papers_scale(large):
    said = disk(large, {DMPO: ["papers"]})
    # LoRA of rank 128 on all seven projections of LLaDA-8B: 335.5 M numbers
    stays, runs = said.split("; ")
    assert stays == "disk: adapters 1.3 GB, samples at most 1.8 MB"
    assert runs == "while it runs, a training run has checkpoints of at most 17.4 GB"
    assert [amount(size) for size in (2.5e12, 1e8, 9e7)] == ["2.5 TB", "0.1 GB", "90.0 MB"]


def test_the_reckoned_adapter_is_the_one_on_disk(made, config):
    from unmask.models.shapes import shape_of
    from unmask.planning.flops import trained_parameters

    folder, _ = made
    (file,) = folder.rglob("adapter_model.safetensors")
    with safe_open(file, "pt") as stored:
        shapes = [stored.get_slice(name).get_shape() for name in dict.fromkeys(stored.keys())]
    numbers = sum(math.prod(shape) for shape in shapes)
    grid = expand(config)
    run = grid.runs[DMPO]
    known = shape_of(grid.models[run.model], Path("none"))
    assert numbers == trained_parameters(known, run.training)
    assert BYTES * numbers < file.stat().st_size < BYTES * numbers + 20_000


def snakemake(*words):
    command = ["snakemake", "--profile", ROOT / "workflow/profiles/slurm", "-s", ROOT / "Snakefile", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_a_plan_makes_no_job_and_is_printed_once():
    code, output = snakemake("plan")
    assert code == 0, output
    assert output.count(f"\n{DMPO} ") == 1
    assert "with --config fidelity=paper: about " in output
    assert "Building DAG" not in output


def test_a_plan_that_refuses_is_printed_once_too(tmp_path):
    stored = {"training": {"micro_batch_size": 16}, "runtime": {"activation_checkpointing": False}}
    change = {"scales": {"llada-8b": stored | {"experiment_changes": {}}}}
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(change), encoding="utf-8")
    code, output = snakemake("plan", "--configfile", str(tmp_path / "large.yaml"))
    assert code == 1
    assert output.count(f"\n{DMPO} ") == 1
    assert "scales.llada-8b.methods.dmpo.micro_batch_size: 14" in output
