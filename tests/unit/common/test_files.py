"""Files are whole or absent, and a broken input is one message that names it."""

import stat
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from unmask.common import atomic
from unmask.common.atomic import atomic_write
from unmask.common.checksums import sha256
from unmask.common.errors import InputError
from unmask.common.parquet import write_rows
from unmask.tasks._examples import read_examples

SOURCE = ROOT / "src"


def write_half(path):
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("a", "b"):
        with atomic_write(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / content).write_text(content)
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["b"]


def test_hash_of_a_folder_sees_names_and_bytes(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("x")
    before = sha256(tmp_path / "d")
    (tmp_path / "d/a").rename(tmp_path / "d/b")
    assert sha256(tmp_path / "d") != before


def test_examples_survive_their_file(tmp_path):
    rows = [{"question": "0140", "answer": "1", "difficulty": 2, "numbers": [1, 2, 3]}]
    write_rows(tmp_path / "x.parquet", rows)
    (read,) = read_examples(tmp_path / "x.parquet")
    assert read["question"] == "0140"
    assert list(read["numbers"]) == [1, 2, 3]


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(InputError, match=r"x\.parquet: cannot be read"):
        read_examples(tmp_path / "x.parquet")


def test_a_step_ends_with_one_line_on_a_broken_spec(tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("nmae: 3\n")
    done = subprocess.run(
        [sys.executable, SOURCE / "prepare_dataset.py", spec, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"prepare_dataset: {spec}: not a DataSpec")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o027, 0o640), (0o077, 0o600)])
def test_what_safetensors_writes_has_the_mode_that_the_umask_gives(umask, mode, tmp_path, monkeypatch):
    """safetensors makes its files readable by their owner alone, whatever the umask."""
    import torch
    from safetensors.torch import save_file

    linked = tmp_path / "theirs"
    linked.write_text("")
    linked.chmod(0o600)
    monkeypatch.setattr(atomic, "UMASK", umask)
    with atomic_write(tmp_path / "adapter") as temporary:
        (temporary / "inner").mkdir(parents=True)
        save_file({"a": torch.ones(1)}, temporary / "inner/a.safetensors")
        (temporary / "link").symlink_to(linked)
    with atomic_write(tmp_path / "a.safetensors") as temporary:
        save_file({"a": torch.ones(1)}, temporary)
    for file in (tmp_path / "adapter/inner/a.safetensors", tmp_path / "a.safetensors"):
        assert stat.S_IMODE(file.stat().st_mode) == mode
    assert stat.S_IMODE(linked.stat().st_mode) == 0o600  # what a link points to belongs to others
