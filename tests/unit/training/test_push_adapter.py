"""push_adapter.py against a stand-in for the hub: what arrives there, what is refused, and where the token is not."""

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time

import pytest
from huggingface_hub import HfApi, ModelCard

from helpers.hub_stub import hub
from helpers.paths import DATA, ROOT
from helpers.published_checkpoints import write_checkpoint
from unmask.common.checksums import verify_checksums, write_checksums
from unmask.common.errors import InputError
from unmask.common.manifest import write_manifest
from unmask.models.policy import Policy
from unmask.training.hub_upload import Hub, stage

GOLDEN = (DATA / "golden_card.md").read_text(encoding="utf-8")
TOKEN = "hf_thisIsASecretThatNobodyMaySee"
REPOSITORY, REVISION = "GSAI-ML/LLaDA-8B-Instruct", "c" * 40


@pytest.fixture
def stub():
    with hub(TOKEN) as one:
        yield one


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a small LLaDA in `base`, and an adapter on it in `adapter`."""
    folder = tmp_path_factory.mktemp("trained")
    write_checkpoint(folder / "base", "llada")
    policy = Policy.load(folder / "base", device="cpu")
    policy.make_trainable(rank=4, alpha=8, dropout=0.0, targets=["q_proj", "v_proj"], seed=1)
    policy.save(folder / "adapter", GOLDEN)
    return folder


@pytest.fixture
def run_folder(trained, tmp_path):
    """Makes the folder of a finished run with this card."""

    def make(card=GOLDEN):
        folder = tmp_path / "run"
        shutil.copytree(trained / "adapter", folder / "adapter")
        (folder / "adapter/README.md").write_text(card, encoding="utf-8")
        write_checksums(folder / "adapter")
        write_manifest(folder / "manifest.json", "d" * 12, {}, [folder / "adapter"], time.monotonic())
        return folder

    return make


@pytest.fixture
def push(stub, tmp_path):
    """Runs push_adapter.py; returns its exit code and all it said."""

    def push(folder, *words, repo="owner/name", token=TOKEN):
        # Without Xet, the library uploads large files over the protocol of Git LFS, which the stand-in speaks.
        here = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": stub.address, "TMPDIR": str(tmp_path)}
        here |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | here
        command = [sys.executable, ROOT / "src/push_adapter.py", folder, "--repo", repo, *words]
        environment |= {"HF_TOKEN": token} if token else {}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        said = done.stdout + done.stderr
        assert TOKEN not in said
        assert "Traceback" not in said
        return done.returncode, said

    return push


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith(".")}


def local(card):
    """The card of a run on a model from scratch."""
    line = f"| Base model | `{REPOSITORY}` at revision `{REVISION}` |"
    told = "| Base model | `smoke/sudoku/seed-0`, made by this workflow, digest 0123; its manifest has the hashes |"
    assert line in card
    return card.replace(line, told).replace(f"base_model: {REPOSITORY}", "base_model: smoke/sudoku/seed-0")


def test_a_dry_run_sends_nothing_and_shows_all(run_folder, push, stub):
    code, said = push(run_folder(), token=None)
    assert code == 0
    assert stub.seen == []
    assert "owner/name, private:" in said
    assert said.rstrip().endswith("Dry run: nothing was sent. Add --push to upload.")
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md", "manifest.json", "SHA256SUMS"):
        assert f" bytes  {name}" in said
    assert "| # d1/gsm8k/default/seed-0" in said


def test_what_arrives_is_the_adapter_with_its_card(trained, run_folder, push, stub, tmp_path):
    folder = run_folder()
    before = contents(folder / "adapter")
    code, said = push(folder, "--push")
    assert code == 0, said
    assert f"uploaded: {stub.address}/owner/name/commit/{'c' * 40}" in said
    here = stub.repositories["owner/name"]
    assert here["private"]
    files = here["files"]
    assert files.keys() == {*before, "manifest.json"}
    for name in ("adapter_model.safetensors", "manifest.json"):
        assert files[name] == {**before, "manifest.json": (folder / "manifest.json").read_bytes()}[name]
    assert contents(folder / "adapter") == before

    # What was downloaded is whole, a card for the hub, and the policy.
    download = tmp_path / "download"
    download.mkdir()
    for name, data in files.items():
        (download / name).write_bytes(data)
    verify_checksums(download)
    card = ModelCard(files["README.md"].decode())
    assert card.data.to_dict() == {
        "library_name": "peft", "base_model": REPOSITORY, "tags": ["masked-diffusion", "diffu_grpo"],
    }  # fmt: skip
    assert "hf download owner/name --local-dir adapter" in card.text
    assert "not on the hub" not in card.text
    assert "results/llada-8b/models/llada-8b-instruct/weights" not in card.text
    config = json.loads(files["adapter_config.json"])
    assert (config["base_model_name_or_path"], config["revision"]) == (REPOSITORY, REVISION)
    Policy.load(trained / "base", download, device="cpu")

    # The token is sent to the hub's API only, and is in no file.
    to_storage = [token for _, path, token in stub.seen if path.startswith("/large/")]
    assert to_storage == [None]
    assert {token for _, path, token in stub.seen if "owner/name" in path} == {f"Bearer {TOKEN}"}
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or TOKEN.encode() not in file.read_bytes(), file
    assert not any(TOKEN.encode() in data for data in files.values())


def test_a_base_model_that_is_not_on_the_hub_is_said_to_be_missing(run_folder, push, stub):
    code, said = push(run_folder(local(GOLDEN)), "--push", "--public")
    assert code == 0, said
    here = stub.repositories["owner/name"]
    assert not here["private"]
    card = ModelCard(here["files"]["README.md"].decode())
    assert card.data.base_model is None
    assert (
        "**The base model is not on the hub.** It is `smoke/sudoku/seed-0`, which the workflow trained. Without its "
        "weights this adapter cannot be used; the command under Repeat makes both."
    ) in card.text
    config = json.loads(here["files"]["adapter_config.json"])
    assert config["base_model_name_or_path"] is None


def test_an_export_is_uploaded_with_its_names_and_base_model(trained, run_folder, push, stub, tmp_path, monkeypatch):
    out = tmp_path / "out"
    words = ["export_adapter", run_folder() / "adapter", "--base", trained / "base", "--out", out]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    runpy.run_path(str(ROOT / "src/export_adapter.py"), run_name="__main__")
    verify_checksums(out)
    code, said = push(out, "--push")
    assert code == 0, said
    files = stub.repositories["owner/name"]["files"]
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json", "README.md", "SHA256SUMS"}
    assert hashlib.sha256(files["adapter_model.safetensors"]).hexdigest() in files["SHA256SUMS"].decode()
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == REPOSITORY
    assert str(trained) not in files["adapter_config.json"].decode()
    assert 'PeftModel.from_pretrained(base, "owner/name")' in files["README.md"].decode()
    assert "unmask.models.policy" not in files["README.md"].decode()


# --- what is refused --------------------------------------------------------------------------------------------------


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


DAMAGES = {
    "adapter_model.safetensors: not as recorded in SHA256SUMS": lambda f: flip(f / "adapter/adapter_model.safetensors"),
    "extra.bin: not as recorded in SHA256SUMS": lambda f: (f / "adapter/extra.bin").write_bytes(b"?"),
    "no manifest.json, so this run is not finished": lambda f: (f / "manifest.json").unlink(),
    "no SHA256SUMS, so nothing says whether": lambda f: (f / "adapter/SHA256SUMS").unlink(),
    "has neither a folder `adapter` nor": lambda f: (f / "adapter").rename(f / "other"),
    "manifest.json: damaged or edited": lambda f: change(f / "manifest.json", '"seconds": ', '"seconds": 1'),
}


def change(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("said", DAMAGES)
def test_damaged_and_unfinished_runs_are_refused(run_folder, tmp_path, said):
    folder = run_folder()
    DAMAGES[said](folder)
    with pytest.raises(InputError, match=re.escape(said)):
        stage(folder, "owner/name", tmp_path / "staged")


def test_names_and_repositories_that_do_not_fit_are_refused(run_folder, stub, tmp_path):
    with pytest.raises(InputError, match="--repo: 'name' is not owner/name"):
        stage(run_folder(), "name", tmp_path / "staged")
    assert not (tmp_path / "staged").exists()
    stage(tmp_path / "run", "owner/name", tmp_path / "staged")
    there = Hub(HfApi(stub.address, TOKEN), TOKEN)
    stub.repositories["owner/name"] = {"private": False, "files": {}}
    with pytest.raises(InputError, match="exists and is public; choose another name, or add --public"):
        there.push(tmp_path / "staged", "owner/name", private=True)
    stub.repositories["owner/name"] = {"private": True, "files": {"threshold_head.safetensors": b""}}
    with pytest.raises(InputError, match=r"has threshold_head\.safetensors, which would remain"):
        there.push(tmp_path / "staged", "owner/name", private=True)
    assert stub.repositories["owner/name"]["files"] == {"threshold_head.safetensors": b""}


@pytest.mark.parametrize(("token", "said"), [("", "HF_TOKEN is not set"), ("my secret\x00", "HF_TOKEN contains char")])
def test_no_token_and_one_that_cannot_be_one_are_refused(monkeypatch, token, said):
    monkeypatch.setattr(os, "environ", {"HF_TOKEN": token})
    with pytest.raises(InputError, match=said) as error:
        Hub.from_environment()
    assert "secret" not in str(error.value)


def test_a_refusal_that_quotes_the_token_is_told_without_it(run_folder, push, stub):
    stub.refuses = True
    code, said = push(run_folder(), "--push")
    assert code == 1
    assert "not allowed: Bearer HF_TOKEN" in said
