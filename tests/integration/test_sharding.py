"""Processes that train all weights share the model (FSDP2): they make the updates of one and resume bit for bit."""

import json
import os
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from helpers.paths import ROOT
from helpers.processes import begin_job, start, wait_for_checkpoint, workers
from unmask.config.grid.expand import expand
from unmask.models.policy import Policy
from unmask.training.checkpoint import Checkpoint

METHODS = ["coupled_grpo", "diffpo", "diffu_grpo", "dmpo"]
EVERY_WEIGHT = {
    "lora_rank": 0,
    "prompts_per_decode_batch": 1,
    "micro_batch_size": 3,
    "max_grad_norm": 0.05,
}


@pytest.fixture
def folder(config, on_disk):
    """A base model, data, and specs of runs of several methods that train all weights.

    Between them: one, two and three passes per loss, several per micro-batch, recomputed activations, references that
    stay and that move, and a jointly trained threshold head.
    """
    config["scales"]["smoke"]["training"] |= EVERY_WEIGHT
    config["experiments"]["main"] |= {"methods": METHODS, "tasks": ["sudoku"]}
    config["methods"]["diffu_grpo"]["kl_penalty"] = 0.1
    for name in METHODS:
        config["methods"][name]["learning_rate"] = 1e-3
    config["methods"]["coupled_grpo"] |= {"kl_penalty": 0.5, "reference_sync": 1, "reference_mix": 0.6}
    config["methods"]["diffpo"]["learn"] = "joint"
    config["methods"]["diffpo"]["sampler"] = "adaptive_block"
    runs = {name: expand(config).runs[f"{name}/sudoku/default/seed-0"] for name in METHODS}
    for name, run in runs.items():
        run.write(on_disk / f"{name}.yaml")
    return on_disk


def test_two_processes_with_half_the_model_make_the_updates_of_one(folder):
    one, two = folder / "one", folder / "two"
    for count, out in ((1, one), (2, two)):
        out.mkdir()
        process = start(count, ROOT / "tests/helpers/train_together.py", folder, out)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        shared = "process 0 holds its share of every weight, gradient and moment"
        assert said.count(shared) == (len(METHODS) if count == 2 else 0), said

    base = load_file(folder / "weights/model.safetensors")
    for name in METHODS:
        alone, together = (load_file(out / f"{name}.safetensors") for out in (one, two))
        assert alone.keys() == together.keys()
        norms = alone["metrics"][:, 4]
        assert len(norms) == 4
        assert (norms > EVERY_WEIGHT["max_grad_norm"]).all()
        assert any(key.startswith("head.") for key in alone) == (name == "diffpo")
        assert all(not torch.equal(value, base[key]) for key, value in alone.items() if key in base)
        for key, value in alone.items():
            torch.testing.assert_close(together[key], value, rtol=1e-5 if key == "metrics" else 0, atol=1e-5)


def test_a_method_with_other_passes_on_each_process_ends_the_job(folder):
    for name in METHODS[:-1]:
        (folder / f"{name}.yaml").unlink()
    process = start(2, ROOT / "tests/helpers/train_together.py", folder, folder / "out", UNMASK_MORE="1")
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "of 2 lost the others" in said


def test_a_killed_and_a_stopped_job_resume_bit_for_bit(config, folder):
    """And one process resumes what two have begun, up to rounding."""
    config["scales"]["smoke"]["training"] |= {"buffers": 8, "validate_every": 3}
    spec = folder / "long.yaml"
    expand(config).runs["dmpo/sudoku/default/seed-0"].write(spec)
    whole, broken, alone = (folder / name for name in ("whole", "broken", "alone"))
    said, _ = begin_job(spec, 2, whole).communicate(timeout=300)
    assert (whole / "manifest.json").exists(), said

    # A rank dies, in a collective of the other or between two.
    process = begin_job(spec, 2, broken)
    wait_for_checkpoint(broken, process)
    os.kill(workers(process)[1], signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "train_policy: process 0 of 2 lost the others: one has exited, see its output" in said
    assert 'train_policy.py", line' not in said  # no traceback but torchrun's
    assert {path.name for path in broken.iterdir()} == {"checkpoints"}
    killed_at = newest(broken)

    # torchrun gets a signal, as from SLURM before the time limit.
    process = begin_job(spec, 2, broken)
    while process.poll() is None and f"step-{killed_at:06d}" == max(path.name for path in broken.glob("*/step-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f"resumed after update {killed_at}" in said
    assert "stopped by a signal after update" in said
    stopped_at = newest(broken)
    assert killed_at < stopped_at < 16
    shutil.copytree(broken, alone)

    for out, count in ((broken, 2), (alone, 1)):
        said, _ = begin_job(spec, count, out).communicate(timeout=300)
        assert f"resumed after update {stopped_at}" in said
        assert json.loads((out / "manifest.json").read_text())["processes"] == count
    files = [out / "adapter" / "model.safetensors" for out in (whole, broken, alone)]
    assert files[0].read_bytes() == files[1].read_bytes()
    weights, resumed = load_file(files[0]), load_file(files[2])
    for name, value in weights.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=1e-5)
    assert Policy.load(folder / "weights", whole / "adapter").model.config.architectures == ["LladaForMaskedDiffusion"]


def newest(out):
    """The update of the newest checkpoint, which must be intact."""
    folder = max(out.glob("checkpoints/step-*"))
    state = Checkpoint.newest(folder.parent, json.loads((folder / "state.json").read_text())["identity"])
    assert state
    return state.step
