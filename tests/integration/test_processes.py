"""Several processes train the policy that one would have trained; when one dies all end, and the work can go on."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from helpers.paths import ROOT
from helpers.processes import begin_job, start, wait_for_checkpoint, workers
from unmask.common import distributed
from unmask.common.errors import InputError
from unmask.common.seeding import Seeds
from unmask.config.grid.expand import expand
from unmask.config.schema.samplers import RandomOrder
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.settings import DecodingSettings
from unmask.training import validation
from unmask.training.checkpoint import Checkpoint
from unmask.training.sharing import check_equal, check_shares

METHODS = ["diffu_grpo", "dmpo"]


@pytest.fixture
def folder(config, on_disk):
    """A base model, data, and specs of a few methods' runs with everything that draws random numbers."""
    config["scales"]["smoke"]["training"] |= {
        "prompts_per_decode_batch": 1,
        "micro_batch_size": 4,
        "lora_dropout": 0.1,
        "max_grad_norm": 0.05,
    }
    config["experiments"]["main"] |= {"methods": METHODS, "tasks": ["sudoku"]}
    runs = expand(config).runs
    for name in METHODS:
        runs[f"{name}/sudoku/default/seed-0"].write(on_disk / f"{name}.yaml")
    return on_disk


def test_two_processes_make_the_updates_of_one(folder):
    one, two = folder / "one", folder / "two"
    for count, out in ((1, one), (2, two)):
        out.mkdir()
        process = start(count, ROOT / "tests/helpers/train_together.py", folder, out)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    for name in METHODS:
        alone, together = (load_file(out / f"{name}.safetensors") for out in (one, two))
        assert alone.keys() == together.keys()
        moved = max(value.abs().max() for key, value in alone.items() if "lora_B" in key)
        assert moved > 1e-3  # from zero
        for key, value in alone.items():
            torch.testing.assert_close(together[key], value, rtol=1e-5 if key == "metrics" else 0, atol=1e-6)


def test_all_end_soon_when_the_logits_of_one_turn_to_nan(folder):
    process = start(2, ROOT / "tests/helpers/train_together.py", folder, folder / "out", UNMASK_NAN="1")
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 1
    assert said.count("the model's logits there are NaN or infinite") == 1
    assert "rank      : 1" in said  # torchrun's account of who ended first


def test_validation_answers_are_those_of_one_process(policy, sudoku, monkeypatch):
    """With an order that is drawn at random, and a share that the number of processes does not divide."""
    examples = sudoku.splits()["validation"]
    decoding = DecodingSettings(16, 8, RandomOrder(), temperature=1.0, rows_per_batch=3)
    settings = RolloutSettings(group_size=2, decoding=decoding, micro_batch_size=8, dropout=False)
    graded, said = validation.grade_response, {1: {}, 2: {}}

    def spy(task, text, example):
        said[distributed.world()][example["question"]] = text
        return graded(task, text, example)

    monkeypatch.setattr(validation, "grade_response", spy)
    for count, answers in said.items():
        for rank in range(count):
            monkeypatch.setattr(distributed, "world", lambda count=count: count)
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(distributed, "add", lambda values: None)
            validation.accuracies(policy, sudoku, examples, settings, Seeds((0,)))
        assert len(answers) == len(examples) == 8
    assert said[1] == said[2]


def test_when_one_dies_all_end_and_one_alone_goes_on_to_the_same_result(config, folder):
    config["scales"]["smoke"]["training"] |= {"buffers": 8, "validate_every": 0}
    run = expand(config).runs["dmpo/sudoku/default/seed-0"]
    run.write(folder / "long.yaml")
    out, whole = folder / "killed", folder / "whole"
    process = begin_job(folder / "long.yaml", 2, out)
    wait_for_checkpoint(out, process)
    os.kill(workers(process)[1], signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "train_policy: process 0 of 2 lost the others: one has exited, see its output" in said
    assert "rank      : 1" in said  # torchrun's account of who died first
    assert {path.name for path in out.iterdir()} == {"checkpoints"}
    newest = max(out.glob("checkpoints/step-*"))
    assert Checkpoint.newest(newest.parent, json.loads((newest / "state.json").read_text())["identity"])
    for folder_, count in ((out, 1), (whole, 1)):
        process = begin_job(folder / "long.yaml", count, folder_)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert (folder_ == out) == ("resumed after update" in said)
    same_adapter(out, whole)


def test_a_signal_to_one_stops_all_after_the_same_update(folder):
    out = folder / "stopped"
    process = begin_job(folder / "dmpo.yaml", 2, out)
    wait_for_checkpoint(out, process)
    os.kill(workers(process)[1], signal.SIGUSR1)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1  # torchrun knows no other number
    assert "stopped by a signal after update" in said
    assert "exitcode  : 75" in said
    assert {path.name for path in out.iterdir()} == {"checkpoints"}


def same_adapter(*folders):
    one, other = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in folders)
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6)


def test_processes_with_other_parameters_are_named(monkeypatch):
    """A single bit of one of them, or two tensors that changed places, in process 2 of three."""
    named = {"a": torch.ones(3, 4).T, "b": torch.zeros(3, 4)}
    flipped = {"a": torch.ones(4, 3), "b": torch.zeros(3, 4)}
    flipped["b"].view(torch.int32)[1, 1] = 1
    swapped = {"a": torch.zeros(4, 3), "b": torch.ones(3, 4)}
    monkeypatch.setattr(distributed, "world", lambda: 3)
    for other in (named, flipped, swapped):
        sums = []
        monkeypatch.setattr(distributed, "values", lambda value, sums=sums: (sums.append(value), [value] * 3)[1])
        check_equal(other, "run", 8)
        check_equal(named, "run", 8)
        monkeypatch.setattr(distributed, "values", lambda value, sums=sums: [value, value, sums[0]])
        if other is named:
            check_equal(named, "run", 8)
            continue
        with pytest.raises(InputError, match=r"run: after update 8 the trained parameters of process 2 .* \(of 3\)"):
            check_equal(named, "run", 8)


def test_a_number_of_processes_that_cannot_share_is_refused(grid):
    run = next(run for run in grid.runs.values() if run.trains)
    # Which need not divide anything.
    settings = run.training.model_copy(update={"prompts_per_buffer": 12, "prompts_per_decode_batch": 5})
    for count in (1, 2, 3, 4, 6, 12):
        check_shares(settings, count)
    for count, fewer in ((5, 1), (8, 4), (24, 12)):
        with pytest.raises(InputError, match=f"{count} processes cannot share prompts_per_buffer: 12; start {fewer},"):
            check_shares(settings, count)


@pytest.mark.parametrize(("found", "said"), [(None, "process 1 of 2 cannot all-reduce on cpu: each process needs"),
                                             (1.0, "2 processes all-reduce a one to 1 on cpu")])  # fmt: skip
def test_a_device_that_cannot_reach_the_others_is_found_before_models_are_read(found, said, monkeypatch):
    def reduce(one, _reduction):
        if found is None:
            raise RuntimeError("NCCL error: Duplicate GPU detected")
        return one

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed, "_state", None)
    monkeypatch.setattr(distributed, "PartialState", lambda **_: SimpleNamespace(num_processes=2, process_index=1))
    monkeypatch.setattr(distributed.utils, "reduce", reduce)
    with pytest.raises(InputError, match=said), distributed.joined():
        pytest.fail("the processes work without each other")
