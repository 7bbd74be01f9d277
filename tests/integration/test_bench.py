"""The benchmark runs, and counts what it says it counts."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest
import torch

from helpers.paths import ROOT
from syncs import HostSyncs

VALUES = torch.arange(6.0)
MASK = VALUES > 2


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: VALUES.sum().item(), 1),
        (lambda: float(VALUES.sum()) + int(VALUES[0]) + bool(MASK.any()), 3),
        (lambda: VALUES.tolist(), 1),
        (lambda: VALUES[MASK], 1),
        (lambda: MASK.nonzero(), 1),
        (lambda: torch.where(MASK), 1),
        (lambda: VALUES[[1, 2]], 1),
        (lambda: VALUES.clone().__setitem__([1, 2], 0.0), 1),
        (lambda: torch.tensor([1, 2]), 1),
        (lambda: VALUES.clone().__setitem__(MASK, VALUES[:3]), 1),
        (lambda: VALUES.clone().__setitem__(MASK, 0.0), 0),
        (lambda: VALUES[torch.arange(2)] + VALUES[:2] + VALUES[3], 0),
        (lambda: torch.where(MASK, VALUES, 0).masked_fill(MASK, 1).softmax(0), 0),
    ],
)
def test_host_synchronisations_are_counted(call, expected):
    with HostSyncs() as syncs:
        call()
    assert sum(syncs.calls.values()) == expected


@pytest.mark.parametrize(
    "only", ["V512 DMPO", "V512 mixed lengths, dual cache, 4", "V512 mixed lengths, dual cache, 8"]
)
def test_quick_benchmark_finds_both_sides_equal(tmp_path, only):
    out = tmp_path / "bench.json"
    command = [sys.executable, ROOT / "bench/run.py", "--quick", "--repeats", "1", "--only", only, "--out", out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    (name, cell), *others = json.loads(out.read_text())["cells"].items()
    assert not others
    assert name.startswith(only)
    assert cell["equal"]
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in cell["seconds"].values())
    assert f"| {name}" in printed


@pytest.fixture
def run_bench():
    """bench/run.py as a module."""
    spec = importlib.util.spec_from_file_location("run_bench", ROOT / "bench/run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_check_names_cells_below_their_floor_and_cells_that_differ(run_bench, tmp_path, monkeypatch):
    name = "V4096 uncached step"
    fast = {"textbook": [2.0, 9.0, 2.0], "ours": [1.0, 1.0, 1.0]}
    cell = {"equal": True, "seconds": fast}
    assert run_bench.complaints({name: cell}, {name: 2.0, "not measured": 5.0}) == []
    assert run_bench.complaints({name: cell}, {name: 2.1}) == [f"{name}: time ratio 2.00, below its floor of 2.1"]
    assert run_bench.complaints({name: cell | {"equal": False}}, {}) == [f"{name}: textbook and ours differ"]
    assert run_bench.FLOORS.keys() <= run_bench.cells(run_bench.FULL).keys()

    # As the command ends, with measurements in which both sides take the same time.
    sides = {side: [1.0] for side in run_bench.SIDES}
    found = {"equal": True, "seconds": sides, "megabytes": {"textbook": 1.0, "ours": 1.0}, "nfe": None}
    found |= {"passes": {"textbook": 1, "ours": 1}, "syncs": {"textbook": {}, "ours": {}}}
    monkeypatch.setattr(run_bench, "measure", lambda job, repeats: found)
    command = ["run.py", "--only", name, "--out", str(tmp_path / "bench.json")]
    monkeypatch.setattr(sys, "argv", command)
    run_bench.main()
    monkeypatch.setattr(sys, "argv", [*command, "--check"])
    with pytest.raises(SystemExit, match=f"{name}: time ratio 1.00, below its floor of 1.17"):
        run_bench.main()


def gpu_bench(*words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, ROOT / "bench/gpu.py", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_gpu_benchmark_runs_tiny_on_the_processor(tmp_path):
    out = tmp_path / "gpu.json"
    done = gpu_bench("--smoke", "--repeats", "1", "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    caches = ("none", "prefix", "dual")
    assert found["rollouts"].keys() == {f"{name}, cache {cache}" for name in ("merged", "adapter") for cache in caches}
    assert found["two_processes_equal"] is True
    assert found["load"]["seconds"][0] > 0
    assert found["load"]["gigabytes"] > 0
    settings = ("without activation checkpointing", "with activation checkpointing")
    assert found["updates"].keys() == {f"{method}, {name}" for method in ("dmpo", "grpo") for name in settings}
    for one in found["rollouts"].values():
        assert one["tokens_per_second"] > 0
        assert one["roofline"] > 0
    for one in found["updates"].values():
        assert one["utilisation"] > 0
        assert one["peak_gb"] is None  # of a GPU
    assert all(f"| {name}" in done.stdout for name in found["rollouts"])
    assert "Two processes on the device: the same tokens as one." in done.stdout


def test_the_gpu_benchmark_leaves_out_what_would_begin_too_late(tmp_path):
    out = tmp_path / "gpu.json"
    done = gpu_bench("--smoke", "--repeats", "1", "--minutes", "0", "--out", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["rollouts"] == {}
    assert all("seconds" not in one for one in found["updates"].values())
    assert "left out, the time is over" in done.stderr
    assert "| left out " in done.stdout


def test_the_gpu_benchmark_refuses_in_one_line_without_a_gpu():
    done = gpu_bench()
    assert done.returncode == 1
    assert done.stderr.startswith("bench/gpu.py: no CUDA device here; ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_the_roofline_counts_every_token_that_is_decoded(cache):
    from gpu_work import FULL, SAMPLER, widths
    from unmask.planning.flops import decoded_tokens

    sampler = SAMPLER.model_copy(update={"cache": cache})
    assert sum(widths(FULL, cache)) == decoded_tokens(sampler, FULL["prompt"], FULL["length"], FULL["block"])
    assert len(widths(FULL, cache)) == 128


def test_an_adapter_is_in_the_weights_of_the_benchmark(grid):
    from gpu_work import SMOKE, model_body, random_model, with_adapter

    model, shape = random_model(SMOKE["shape"], torch.device("cpu")), SMOKE["shape"]
    assert model_body(model) == shape.body
    policy = with_adapter(model, grid.runs["dmpo/sudoku/default/seed-0"])
    trained = sum(p.numel() for p in policy.trainable().values())
    assert model_body(policy.model) == shape.body + trained
    assert policy.model.dtype == torch.bfloat16
