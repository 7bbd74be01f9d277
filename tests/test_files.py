"""Files are whole or absent, and a broken input is one message that names it."""

import subprocess
import sys
from pathlib import Path

import pytest

from unmask.data import read_examples, write_rows
from unmask.files import InputError, sha256, writing

SOURCE = Path(__file__).parents[1] / "src"


def write_half(path):
    with writing(path) as temporary:
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
        with writing(tmp_path / "folder") as temporary:
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
