"""Fixtures: the configuration, a fresh tiny policy, and a small Sudoku run with its examples."""

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # snakemake of this environment

import pytest

from unmask.config.grid.expand import expand
from unmask.config.loading import load_config


@pytest.fixture
def config():
    """config.yaml as it is read, at the smoke scale."""
    values = load_config()
    values["scale"] = "smoke"
    return values


@pytest.fixture
def grid(config):
    return expand(config)


@pytest.fixture
def make_policy():
    """Makes an untrained tiny model with its tokenizer, each time the same."""
    import torch

    from unmask.models.policy import Policy
    from unmask.models.tiny import build_model, build_tokenizer

    torch.set_num_threads(1)
    shape = {"hidden_size": 32, "layers": 2, "heads": 2, "mlp_size": 48, "rope_theta": 1e4}

    def make():
        tokenizer = build_tokenizer()
        return Policy(build_model(**shape, vocabulary=len(tokenizer), seed=0).eval(), tokenizer)

    return make


@pytest.fixture
def policy(make_policy):
    """An untrained tiny model with its tokenizer."""
    return make_policy()


@pytest.fixture
def sudoku():
    from unmask.tasks import load

    return load("sudoku", expand_task_settings("sudoku"))


@pytest.fixture
def task_settings():
    """Settings of a task at the smoke scale, by name."""
    return expand_task_settings


def expand_task_settings(task):
    """Settings of a task at the smoke scale."""
    values = load_config()
    values["scale"] = "smoke"
    grid = expand(values)
    trained = next(run for run in grid.runs.values() if run.task == task and run.trains)
    return grid.tests[task].settings | trained.task_settings


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def ids():
    """Three rows of tokens for the models of published_checkpoints.py."""
    import torch

    return torch.randint(2, 59, (3, 17), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def on_disk(policy, sudoku, tmp_path):
    """A folder with the tiny model in `weights`, and beside it Sudoku's splits as parquet."""
    from unmask.common.checksums import write_checksums
    from unmask.common.parquet import write_rows

    policy.model.save_pretrained(tmp_path / "weights")
    policy.tokenizer.save_pretrained(tmp_path / "weights")
    write_checksums(tmp_path / "weights")
    for split, rows in sudoku.splits().items():
        write_rows(tmp_path / f"{split}.parquet", rows)
    return tmp_path


@pytest.fixture
def job(config, on_disk):
    """A run of some 24 updates with its base model and data on disk; `start(name, *words)` begins it in a process."""
    config["scales"]["smoke"]["training"] |= {
        "buffers": 8,
        "updates_per_buffer": 3,
        "validate_every": 0,  # so that the last update counts
        "lora_dropout": 0.1,
    }
    expand(config).runs["dmpo/sudoku/default/seed-0"].write(on_disk / "spec.yaml")

    def start(name, *words):
        out = on_disk / name
        out.mkdir(exist_ok=True)
        command = [
            sys.executable, ROOT / "src" / "train_policy.py", on_disk / "spec.yaml", "--weights", on_disk / "weights",
            "--data", on_disk / "train.parquet", "--adapter", out / "adapter", "--metrics", out / "metrics.csv",
            "--manifest", out / "manifest.json", "--validation", on_disk / "validation.parquet",
            "--checkpoint-minutes", "0", *words,
        ]  # fmt: skip
        return out, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with the results of every step of one run at the smoke scale, and how each step ended (steps.py)."""
    from helpers import steps

    folder = tmp_path_factory.mktemp("made")
    return folder, steps.make(folder)


@pytest.fixture
def finish():
    """Waits for a process that should end well; returns what it said."""
    return wait


def wait(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output
