"""The test sets of d1 are fetched whole, checked, and never overwritten."""

import functools
import http.server
import importlib
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from unmask.files import InputError
from unmask.readiness import FETCHED

ROOT = Path(__file__).parents[1]
CONTENT = {"dataset/countdown_cd3_test.jsonl": b"{}\n", "dataset/4x4_test_sudoku.csv": b"Puzzle,Solution\n"}


@pytest.fixture
def step(monkeypatch):
    """The step as a module, with the hashes of this test's small files."""
    monkeypatch.syspath_prepend(str(ROOT / "src"))
    module = importlib.import_module("fetch_data")
    small = {source: (place, module.sha256(CONTENT[source])) for source, (place, _) in module.FILES.items()}
    monkeypatch.setattr(module, "FILES", small)
    return module


@pytest.fixture
def server(tmp_path):
    """The address of a folder with both files, and the folder."""
    folder = tmp_path / "server"
    for name, content in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", folder
    running.shutdown()


@pytest.fixture
def fetch(step, server, tmp_path, monkeypatch):
    """Run the step in a folder of its own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "argv", ["fetch_data.py", "--address", server[0]])
    return step.main


def test_both_files_come_to_where_the_configuration_has_them(fetch, step, capsys):
    fetch()
    assert tuple(place for place, _ in step.FILES.values()) == FETCHED
    assert [Path(place).read_bytes() for place in FETCHED] == list(CONTENT.values())
    assert capsys.readouterr().out.count("fetched, SHA-256 checked") == 2
    fetch()
    assert capsys.readouterr().out.count("already there, SHA-256 checked") == 2


def test_another_content_is_not_kept(fetch, server):
    (server[1] / "dataset/4x4_test_sudoku.csv").write_bytes(b"something else")
    with pytest.raises(InputError, match="nothing is kept") as caught:
        fetch()
    assert "git clone https://github.com/dllm-reasoning/d1" in str(caught.value)
    assert [Path(place).exists() for place in FETCHED] == [True, False]


def test_a_file_of_one_s_own_is_not_overwritten(fetch):
    mine = Path(FETCHED[0])
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"data/countdown/test\.jsonl: not the file of dllm-reasoning/d1"):
        fetch()
    assert mine.read_bytes() == b"mine"


def test_without_a_network_the_commands_are_printed(tmp_path):
    command = [sys.executable, ROOT / "src/fetch_data.py", "--address", "http://127.0.0.1:1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "git -C d1 checkout 837888f22c21a5da91a0af2b0d7b19e81d9b47ec" in done.stderr
    assert "cp d1/dataset/4x4_test_sudoku.csv data/sudoku/test.csv" in done.stderr
    assert not list(tmp_path.iterdir())
