"""prepare_model.py on published checkpoints: a local folder, the hub's cache, and what cannot be had."""

import json
import os
import subprocess
import sys

import pytest
import torch

from helpers.paths import ROOT
from helpers.published_checkpoints import load, write_checkpoint
from unmask.common.checksums import SUMS, checksums
from unmask.common.errors import InputError
from unmask.config.schema.models import HubModel, LocalModel, base_model_from
from unmask.config.specs import ModelSpec
from unmask.models.hub import checkpoint_folder

pytestmark = pytest.mark.usefixtures("no_network")
SHARD = "model-00002-of-00002.safetensors"


def prepare(tmp_path, source, **settings):
    """Run prepare_model.py; returns its exit code and what it said."""
    ModelSpec("some-model", source, base_model_from({"source": source} | settings)).write(tmp_path / "spec.yaml")
    command = [sys.executable, ROOT / "src/prepare_model.py", "spec.yaml", "--weights", "weights", "--data"]
    done = subprocess.run(
        [*command, "--manifest", "manifest.json"],
        capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_local_checkpoint_is_checked_linked_and_noted(tmp_path, ids):
    write_checkpoint(tmp_path / "there", "llada")
    (tmp_path / "there/modeling_llada.py").write_text("")
    (tmp_path / "there/pytorch_model.bin").write_bytes(b"")
    code, said = prepare(tmp_path, "local", path="there")
    assert code == 0, said
    links = sorted(file for file in (tmp_path / "weights").iterdir() if file.name != SUMS)
    assert all(file.is_symlink() and file.resolve() == tmp_path / "there" / file.name for file in links)
    assert not {file.suffix for file in links} & {".py", ".bin"}
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["origin"] == {"source": "local", "path": "there"}
    assert manifest["parameters"] == sum(p.numel() for p in load(tmp_path / "there").parameters())
    assert manifest["files"] == checksums(tmp_path / "weights")
    sum_of = subprocess.run(["sha256sum", tmp_path / "there" / SHARD], capture_output=True, text=True, check=True)
    assert manifest["files"][SHARD] == sum_of.stdout.split()[0]
    assert torch.equal(load(tmp_path / "weights")(ids), load(tmp_path / "there")(ids))


def test_a_checkpoint_in_the_hub_cache_is_found_offline(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "hub/hub/models--some--model"
    write_checkpoint(place / "snapshots" / commit, "dream")
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    code, said = prepare(tmp_path, "hub", repository="some/model", revision=commit)
    assert code == 0, said
    assert json.loads((tmp_path / "manifest.json").read_text())["origin"]["revision"] == commit
    assert load(tmp_path / "weights").config.model_type == "Dream"


def test_a_checkpoint_that_is_not_in_the_cache_is_one_line(tmp_path):
    code, said = prepare(tmp_path, "hub", repository="some/model", revision="1" * 40)
    assert code == 1
    assert said.startswith("prepare_model: models.some-model: some/model at 1111111 is not available (")
    assert "HF_HUB_OFFLINE is set. Run `hf download some/model --revision 1111" in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("revision", ["to be pinned", "main", "0123456"])
def test_a_revision_that_is_no_commit_is_refused(revision):
    with pytest.raises(
        InputError, match=r"models\.m\.revision: .* choose one from https://huggingface\.co/some/model/commits"
    ):
        checkpoint_folder("m", HubModel(source="hub", repository="some/model", revision=revision))


def test_a_local_path_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"models\.m\.path: .*/file is not a folder"):
        checkpoint_folder("m", LocalModel(source="local", path=str(tmp_path / "file")))
