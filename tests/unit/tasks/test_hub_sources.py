"""Data from copies of hub repositories at a pinned commit, and what is said when they are not there."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from helpers.sources import COMMIT, STORED, gsm8k, hub, local, math500, write_parquet
from unmask.common.errors import TransientError
from unmask.config.grid.expand import expand
from unmask.config.specs import DataSpec
from unmask.tasks import load
from unmask.tasks._sources import load_rows


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Makes the folder of a data set at a commit in a hub cache, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def make(repository, commit=COMMIT):
        folder = tmp_path / "hub" / f"datasets--{repository.replace('/', '--')}" / "snapshots" / commit
        folder.mkdir(parents=True)
        return folder

    return make


CONFIGS = (
    "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: main/train-*\n"
    "  - split: test\n    path: main/test-*\n---\n"
)


def test_hub_layouts(cache):
    folder = cache("openai/gsm8k")
    questions = [{"question": f"q{i}", "answer": f"<<1+1=2>>\n#### {i},000"} for i in range(5)]
    tests = [{"question": f"t{i}", "answer": f"<<1+1=2>>\n#### {i},000"} for i in range(2)]
    write_parquet(questions, folder / "main/train-00000-of-00001.parquet")
    write_parquet(tests, folder / "main/test-00000-of-00001.parquet")
    (folder / "README.md").write_text(CONFIGS)
    splits = gsm8k(hub("openai/gsm8k", "main"), hub("openai/gsm8k", "main", "test")).splits()
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 4, "validation": 1, "test": 2}
    assert splits["test"][1] == {
        "question": "t1", "answer": "1,000", "difficulty": 1, "solution": "<<1+1=2>>"
    }  # fmt: skip

    problems = [
        {"problem": f"p{i}", "solution": rf"thus \boxed{{\frac{{{i}}}{{7}}}}.", "level": "Level 3"} for i in range(5)
    ]
    write_parquet(problems, cache("ankner/math-500") / "data/train-00000-of-00001.parquet")
    test = {"problem": "p0", "solution": "", "answer": "0", "subject": "Algebra", "level": 2, "unique_id": "x"}
    (cache("HuggingFaceH4/MATH-500") / "test.jsonl").write_text(json.dumps(test))
    splits = math500(hub("ankner/math-500"), hub("HuggingFaceH4/MATH-500", split="test")).splits()
    assert [len(examples) for examples in splits.values()] == [3, 1, 1]  # p0 is tested, so it is not trained on
    assert splits["train"][0]["answer"].startswith(r"\frac")
    assert (splits["train"][0]["difficulty"], splits["test"][0]["difficulty"]) == (3, 2)


def test_the_hub_layout_of_countdown(tmp_path, cache):
    rows = [{"target": 6 + n, "nums": [2, 3, n]} for n in range(1, 9)] + [{"target": 10, "nums": [1, 2, 3, 4]}]
    write_parquet(rows, cache("a/countdown") / "data/train-00000-of-00001.parquet")
    settings = {"prompt": "chat", "prompt_file": "", "train_source": hub("a/countdown"), "largest": 9,
                "test_source": local(tmp_path / "test.jsonl"), "largest_target": 9, "train": 5, "validation": 2,
                "test": 1, "seed": 0, "rewards": "corrected"}  # fmt: skip
    (tmp_path / "test.jsonl").write_text(json.dumps({"input": "8,3,2", "output": "14"}))
    splits = load("countdown", settings).splits()
    assert [len(examples) for examples in splits.values()] == [5, 2, 1]
    assert {tuple(e["numbers"][:2]) for e in splits["train"] + splits["validation"]} == {(2, 3)}  # the last is tested
    assert 8 not in {e["numbers"][2] for e in splits["train"] + splits["validation"]}
    assert splits["test"][0]["target"] == 14


def test_only_the_pinned_commit_is_read(cache):
    """Not another one that is in the cache, nor what `datasets` prepared of one."""
    for commit, name in ((COMMIT, "pinned"), ("1" * 40, "another")):
        write_parquet([{"name": name}], cache("a/b", commit) / "data/train-00000-of-00001.parquet")
    assert load_rows(hub("a/b"), "train") == [{"name": "pinned"}]
    assert load_rows(hub("a/b", revision="1" * 40), "train") == [{"name": "another"}]
    with pytest.raises(
        ValueError, match=r"^a/b at 2222222: cannot be loaded .*`hf download --repo-type dataset a/b --rev"
    ):
        load_rows(hub("a/b", revision="2" * 40), "train")


@pytest.mark.parametrize("offline", ["", "1"])
def test_only_what_another_attempt_may_change_is_transient(monkeypatch, offline):
    def snapshot_download(*_, **__):
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", bool(offline))
    with pytest.raises(ValueError, match=r"cannot be loaded \(reset by peer\)") as caught:
        load_rows(hub("a/b"), "train")
    assert isinstance(caught.value, TransientError) == (not offline)


@pytest.mark.parametrize("error", [PermissionError("not yours"), FileNotFoundError("no data files")])
def test_what_this_machine_refuses_is_final(monkeypatch, error):
    def snapshot_download(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(ValueError, match="cannot be loaded") as caught:
        load_rows(hub("a/b"), "train")
    assert not isinstance(caught.value, TransientError)


def test_what_a_cache_lacks_is_said(cache):
    write_parquet([{"a": 1}], cache("a/b") / "data/train-00001-of-00003.parquet")
    with pytest.raises(ValueError, match=r"missing train-00000-of-00003\.parquet, train-00002-of-00003\.parquet"):
        load_rows(hub("a/b"), "train")
    with pytest.raises(ValueError, match="no split 'test'; there are 'train'"):
        load_rows(hub("a/b", split="test"), "test")


def test_a_data_set_that_a_script_makes_is_refused(cache):
    folder = cache("a/made")
    write_parquet([{"a": 1}], folder / "data/train-00000-of-00001.parquet")
    (folder / "made.py").write_text("raise SystemExit('was run')")
    with pytest.raises(ValueError, match="it is generated by a script, and scripts are never run"):
        load_rows(hub("a/made"), "train")


def test_the_manifest_has_the_commit_and_the_files_that_were_read(tmp_path):
    """In a process of its own, offline, from a cache as `hf download` fills it."""
    folder = tmp_path / "hub/datasets--openai--gsm8k/snapshots" / COMMIT
    for split in ("train", "test"):
        rows = [{"question": f"{split} {i}", "answer": f"#### {i}"} for i in range(3)]
        write_parquet(rows, folder / f"main/{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(CONFIGS)
    sources = {f"{split}_source": hub("openai/gsm8k", "main", split) for split in ("train", "test")}
    DataSpec("gsm8k", sources | STORED).write(tmp_path / "spec.yaml")
    command = [sys.executable, ROOT / "src/prepare_dataset.py", tmp_path / "spec.yaml", tmp_path / "out"]
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    subprocess.run(command, check=True, timeout=60, env=offline)
    read = json.loads((tmp_path / "out/manifest.json").read_text(encoding="utf-8"))["hub"]
    for split in ("train", "test"):
        file = folder / f"main/{split}-00000-of-00001.parquet"
        assert read[f"{split}_source"] == {
            "repository": "openai/gsm8k", "subset": "main", "split": split, "revision": COMMIT,
            "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest()},
        }  # fmt: skip


def test_a_revision_that_is_no_commit_is_refused():
    with pytest.raises(ValueError, match=r"^train_source\.revision: 'main' is not a commit of a/b\. On a machine"):
        load_rows(hub("a/b", revision="main"), "train")


def test_what_is_to_be_pinned_is_said_before_anything_is_fetched(config, tmp_path):
    expand(config | {"scale": "llada-8b"}).datasets["math500"].write(tmp_path / "spec.yaml")
    command = [sys.executable, str(ROOT / "src/prepare_dataset.py"), str(tmp_path / "spec.yaml"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    place = "https://huggingface.co/datasets/ankner/math-500"
    assert (done.returncode, done.stderr) == (
        1,
        "prepare_dataset: tasks.math500: train_source.revision: 'to be pinned' is not a commit of ankner/math-500. "
        f"On a machine with network access, look one up (`git ls-remote {place} HEAD` prints the newest, "
        f"{place}/commits/main lists all) and put its 40 digits there\n",
    )


def test_offline_the_hub_says_the_way_out_at_once(tmp_path):
    code = f"from unmask.tasks._sources import load_rows; load_rows({hub('openai/gsm8k', 'main')!r}, 'train')"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert "openai/gsm8k at 0123456: cannot be loaded" in last
    assert "HF_HUB_OFFLINE is set" in last
    assert "hf download --repo-type dataset openai/gsm8k" in last
