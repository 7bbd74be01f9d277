"""The test sets and prompts of d1 are fetched, checked, and never overwritten."""

import functools
import http.server
import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from helpers.paths import ROOT
from unmask.common.errors import InputError
from unmask.config.grid.expand import expand
from unmask.planning.readiness import FETCHED
from unmask.tasks._released_prompts import PROMPTS, Released, prompt_place

CODE = b'''
FORMAT = """
Think.
"""
OTHER = 3 * FORMAT

def get_questions():
    return rows.map(lambda x: {"prompt": [{"content": f"{FORMAT}\\nGet {x['target']} of {x['nums']} {{}}"}]})
'''
CONTENT = {
    "dataset/countdown_cd3_test.jsonl": b"{}\n",
    "dataset/4x4_test_sudoku.csv": b"Puzzle,Solution\n",
    "some/code.py": CODE,
}
TEXTS = {  # task, and what it is posed for: name in the code, what is added to it, and the prompt
    ("countdown", "training"): ("get_questions", "", "\nThink.\n\nGet {target} of {numbers} {}"),
    ("gsm8k", "evaluation"): ("FORMAT", "\n\n{question}", "\nThink.\n\n\n{question}"),
}


@pytest.fixture
def step(monkeypatch):
    """The step as a module, with the hashes of this test's small files."""
    monkeypatch.syspath_prepend(str(ROOT / "src"))
    module = importlib.import_module("fetch_data")
    small = {source: (place, module.sha256(CONTENT[source])) for source, (place, _) in module.FILES.items()}
    monkeypatch.setattr(module, "FILES", small)
    prompts = {
        key: Released("some/code.py", name, "1", module.sha256(text.encode()), after)
        for key, (name, after, text) in TEXTS.items()
    }
    monkeypatch.setattr(module, "PROMPTS", prompts)
    return module


@pytest.fixture
def server(tmp_path):
    """The address of a folder with the files, and the folder."""
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


def test_the_files_come_to_where_the_configuration_has_them(fetch, step, capsys):
    fetch()
    assert tuple(place for place, _ in step.FILES.values()) == FETCHED[:2]
    assert [Path(place).read_bytes() for place in FETCHED[:2]] == list(CONTENT.values())[:2]
    for key, (_, _, text) in TEXTS.items():
        assert Path(prompt_place(*key)).read_text(encoding="utf-8") == text
    assert capsys.readouterr().out.count("fetched, SHA-256 checked") == 4
    fetch()
    assert capsys.readouterr().out.count("already there, SHA-256 checked") == 4


@pytest.mark.parametrize("code", [CODE.replace(b"Think", b"Guess"), b"no code", CODE.replace(b"get_questions", b"get")])
def test_a_prompt_from_other_code_is_not_kept(fetch, server, code):
    (server[1] / "some/code.py").write_bytes(code)
    with pytest.raises(InputError, match=r"some/code\.py: .*; nothing is kept"):
        fetch()
    assert not Path("data/prompts").exists()


@pytest.mark.skipif("D1_CHECKOUT" not in os.environ, reason="D1_CHECKOUT names no clone of dllm-reasoning/d1")
def test_every_prompt_is_in_the_released_code(step):
    """Clone it at the pinned commit and name the folder in D1_CHECKOUT."""
    for released in PROMPTS.values():
        code = (Path(os.environ["D1_CHECKOUT"]) / released.source).read_text(encoding="utf-8")
        assert "{question}" in released.cut_out(code) or "{numbers}" in released.cut_out(code)


def test_the_released_preset_names_the_prompts_that_are_fetched(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = expand(config | {"scale": "llada-8b", "fidelity": "released"})
    for task, use in PROMPTS:
        spec, key = grid.datasets[task], "prompt_file"
        if use == "evaluation":
            spec, key = grid.tests[task], "evaluation_prompt_file"
        assert spec.settings[key] == prompt_place(task, use)


def test_another_content_is_not_kept(fetch, server):
    (server[1] / "dataset/4x4_test_sudoku.csv").write_bytes(b"something else")
    with pytest.raises(InputError, match="nothing is kept") as caught:
        fetch()
    assert "git clone https://github.com/dllm-reasoning/d1" in str(caught.value)
    assert [Path(place).exists() for place in FETCHED[:2]] == [True, False]


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
    assert "src/fetch_data.py --address" in done.stderr
    assert not list(tmp_path.iterdir())
