"""How often the files of a base model are read: hashed once until they change, and loaded once."""

import collections
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from helpers.published_checkpoints import write_checkpoint
from unmask.common import checksums as sealing
from unmask.common.checksums import MEMORY, SUMS, VERIFY, fingerprint, verify_checksums, write_checksums
from unmask.common.errors import InputError
from unmask.models import loading
from unmask.models.policy import Policy

OLD = 1_700_000_000


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A sealed checkpoint of files that count as large, as links to files that did not change lately."""
    monkeypatch.setattr(sealing, "LARGE", 1)
    write_checkpoint(tmp_path / "hub", "llada")
    (tmp_path / "weights").mkdir()
    for file in (tmp_path / "hub").iterdir():
        os.utime(file, (OLD, OLD))
        (tmp_path / "weights" / file.name).symlink_to(file)
    write_checksums(tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def hashed(monkeypatch):
    """The files that are read for their hash, as often as they are."""
    counts, digest = collections.Counter(), sealing.hashlib.file_digest

    def counting(stream, kind):
        counts[Path(stream.name).name] += 1
        return digest(stream, kind)

    monkeypatch.setattr(sealing.hashlib, "file_digest", counting)
    return counts


def names(folder):
    return {file.name for file in folder.iterdir() if not file.name.startswith(".")} - {SUMS}


def test_a_file_is_hashed_when_sealed_and_not_again(model, hashed):
    for _ in range(2):
        verify_checksums(model, remember=True)
    assert not hashed
    verify_checksums(model)  # for adapters and checkpoints nothing is remembered
    assert hashed == dict.fromkeys(names(model), 1)


def test_without_the_memory_a_file_is_hashed_once_and_remembered(model, hashed):
    (model / MEMORY).unlink()
    for _ in range(3):
        verify_checksums(model, remember=True)
    assert hashed == dict.fromkeys(names(model), 1)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"config.json": 1}', '{"config.json": {"stamp": {}}}'])
def test_a_memory_that_cannot_be_read_is_no_memory(content, model, hashed):
    (model / MEMORY).write_text(content)
    verify_checksums(model, remember=True)
    assert hashed == dict.fromkeys(names(model), 1)
    assert json.loads((model / MEMORY).read_text()).keys() == names(model)


def flip(file, keep_time=False):
    status, content = file.stat(), bytearray(file.read_bytes())
    content[random.Random(0).randrange(len(content))] ^= 1
    file.write_bytes(content)
    if keep_time:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_changed_file_is_found_in_spite_of_the_memory(model, hashed):
    shard = "model-00002-of-00002.safetensors"
    flip((model / shard).resolve())
    for _ in range(2):  # a wrong hash is not remembered
        with pytest.raises(InputError, match=rf"{shard}: not as recorded in {SUMS}"):
            verify_checksums(model, remember=True)
    assert hashed == {shard: 2}


def test_a_link_to_another_file_of_that_size_and_time_is_found(model, tmp_path):
    shard = model / "model-00001-of-00002.safetensors"
    other = tmp_path / "other.safetensors"
    other.write_bytes(shard.read_bytes())
    flip(other)
    os.utime(other, (OLD, OLD))
    shard.unlink()
    shard.symlink_to(other)
    with pytest.raises(InputError, match=shard.name):
        verify_checksums(model, remember=True)


def test_a_bit_that_flips_at_the_same_time_stamp_is_found_by_the_full_check(model, monkeypatch):
    shard = (model / "model-00002-of-00002.safetensors").resolve()
    flip(shard, keep_time=True)
    verify_checksums(model, remember=True)  # as said in docs/develop/reliability.md
    monkeypatch.setenv(VERIFY, "full")
    with pytest.raises(InputError, match=shard.name):
        verify_checksums(model, remember=True)


def test_a_file_that_has_just_changed_is_not_remembered(model):
    """It may change again within one tick of the file system's clock."""
    fresh = (model / "config.json").resolve()
    content = fresh.read_bytes()
    fresh.write_bytes(content)
    verify_checksums(model, remember=True)
    assert json.loads((model / MEMORY).read_text()).keys() == names(model) - {"config.json"}
    flip(fresh)
    with pytest.raises(InputError, match=r"config\.json"):
        verify_checksums(model, remember=True)


def test_small_files_are_not_remembered(model, monkeypatch):
    (model / MEMORY).unlink()
    monkeypatch.setattr(sealing, "LARGE", 16 * 2**20)
    verify_checksums(model, remember=True)
    assert not (model / MEMORY).exists()


def test_a_folder_that_cannot_be_written_is_checked_all_the_same(model, hashed, monkeypatch):
    def refuse(*_):
        raise InputError("read-only")

    (model / MEMORY).unlink()
    monkeypatch.setattr(sealing, "atomic_write", refuse)
    for _ in range(2):
        verify_checksums(model, remember=True)
    assert hashed == dict.fromkeys(names(model), 2)


def test_the_identity_of_a_sealed_folder_reads_nothing_but_its_sums(model, hashed):
    before = fingerprint(model)
    for file in model.glob("*.safetensors"):
        file.resolve().chmod(0)
        file.unlink()
    assert fingerprint(model) == before
    (model / SUMS).write_text("other")
    assert fingerprint(model) != before


def test_one_process_a_node_hashes(model, hashed, monkeypatch):
    monkeypatch.setenv(VERIFY, "full")
    waited = []
    monkeypatch.setattr(loading.distributed, "barrier", lambda: waited.append(dict(hashed)))
    for local_rank in ("1", "0"):
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        loading.check_base(model)
    assert waited == [{}, dict.fromkeys(names(model), 1)]


def test_loading_reads_every_weight_once(model, monkeypatch):
    read = collections.Counter()

    class Counting:
        def __init__(self, *arguments, **options):
            self.file = safe_open(*arguments, **options)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def get_tensor(self, name):
            read[name] += 1
            return self.file.get_tensor(name)

    monkeypatch.setattr(loading, "safe_open", Counting)
    policy = Policy.load(model, device="cpu", dtype="bfloat16")
    assert len(read) == len(list(policy.model.parameters()))
    assert set(read.values()) == {1}


MEASURE = """
import sys, torch
from pathlib import Path
from unmask.models.loading import load_model

def memory(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024

load_model(Path(sys.argv[1]) / "small", "cpu", getattr(torch, sys.argv[2]))
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = memory("VmRSS:")
model = load_model(Path(sys.argv[1]) / "large", "cpu", getattr(torch, sys.argv[2]))
sum(float(p.sum()) for p in model.parameters())
print(memory("VmHWM:") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no way to reset the peak of memory")
@pytest.mark.parametrize(
    ("stored", "dtype"), [("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "float32")]
)
def test_loading_holds_no_more_than_the_model_and_a_weight(stored, dtype, tmp_path):
    from unmask.models.tiny import build_model

    shape = {"heads": 4, "rope_theta": 1e4, "vocabulary": 1000, "seed": 0}
    for name, wide in (("small", 16), ("large", 1024)):
        model = build_model(hidden_size=wide, mlp_size=2 * wide, layers=8, **shape).to(getattr(torch, stored))
        model.save_pretrained(tmp_path / name)
    kept = sum(p.numel() for p in model.parameters()) * getattr(torch, dtype).itemsize
    environment = {**os.environ, "PYTHONPATH": str(Path(loading.__file__).parents[2])}
    command = [sys.executable, "-c", MEASURE, str(tmp_path), dtype]
    peak = int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert 0.9 * kept < peak < 1.15 * kept
