"""Revisions that are to be pinned get a hub's commit, and nothing else in the files of the configuration changes."""

import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import yaml

from helpers.paths import ROOT
from unmask.common.errors import InputError
from unmask.planning.pins import loose_revisions, pinned

COMMITS = {"datasets/who/data": "a" * 40, "models/who/model": "b" * 40}
CONFIG = """\
tasks:
  one:
    train_source: &shared         # who made it
      source: hub
      repository: who/data
      revision: to be pinned      # stays
    test_source: {<<: *shared, split: test}
    third: {source: hub, repository: who/data, revision: "main", split: x}    # in one line
    fourth: {source: hub, repository: who/data, revision: cccccccccccccccccccccccccccccccccccccccc}
models:
  m: {source: hub, repository: who/model, revision: main}
"""
KEYS = ["tasks.one.train_source.revision", "tasks.one.third.revision", "models.m.revision"]


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the hub's API does when it is asked for a repository."""

    def do_GET(self):
        commit = COMMITS.get(self.path.partition("?")[0].removeprefix("/api/"))
        self.send_response(200 if commit else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"id": "who/x", "sha": commit} if commit else {}).encode())

    def log_message(self, *words):
        pass


@pytest.fixture
def hub():
    """The address of a hub on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def pin(folder, **env):
    """Run the step on config.yaml in a folder."""
    command = [sys.executable, ROOT / "src/pin_revisions.py"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "hf"), **env}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_loose_revisions_are_found_once():
    assert [one.key for one in loose_revisions(CONFIG)] == KEYS
    assert [one.kind for one in loose_revisions(CONFIG)] == ["dataset", "dataset", "model"]


def test_commits_come_into_the_file_and_all_else_stays(hub, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    done = pin(tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    wanted = CONFIG.replace("to be pinned", "a" * 40).replace('"main"', "a" * 40).replace("main", "b" * 40)
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == wanted
    assert yaml.safe_load(wanted)["tasks"]["one"]["test_source"]["revision"] == "a" * 40
    assert f"{KEYS[0]}: {'a' * 40}, the newest commit of who/data" in done.stdout
    assert "every revision is a commit already" in pin(tmp_path, HF_ENDPOINT=hub).stdout


@pytest.mark.parametrize("env", [{}, {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:1"}])
def test_an_answer_that_cannot_be_had_changes_nothing(hub, tmp_path, env):
    text = CONFIG.replace("who/model", "who/nobody") if not env else CONFIG
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    done = pin(tmp_path, **({"HF_ENDPOINT": hub} | env))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "`git ls-remote " in done.stderr
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == text


def test_a_value_that_cannot_be_replaced_alone_is_refused():
    shared = "x: &r main\ny: *r\nmodels: {m: {source: hub, repository: a/b, revision: *r}}\n"
    with pytest.raises(InputError, match="cannot be replaced here"):
        pinned(shared, {"models.m.revision": "a" * 40})


def test_a_commit_comes_into_the_file_that_holds_the_revision(hub, tmp_path):
    own = "models: {m: {revision: mine}}    # of the repository in models.yaml\n"
    tasks = "tasks: {t: {train_source: {source: hub, repository: who/data, revision: x}}}\n"
    models = f"models: {{m: {{source: hub, repository: who/model, revision: {'c' * 40}}}}}\n"
    folder = tmp_path / "workflow/config"
    folder.mkdir(parents=True)
    (tmp_path / "config.yaml").write_text(own, encoding="utf-8")
    (folder / "tasks.yaml").write_text(tasks, encoding="utf-8")
    (folder / "models.yaml").write_text(models, encoding="utf-8")

    done = pin(tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == own.replace("mine", "b" * 40)
    assert (folder / "tasks.yaml").read_text(encoding="utf-8") == tasks.replace("revision: x", f"revision: {'a' * 40}")
    assert (folder / "models.yaml").read_text(encoding="utf-8") == models


@pytest.mark.parametrize("name", ["config.yaml", "workflow/config/models.yaml", "workflow/config/tasks.yaml"])
def test_the_project_s_own_files_keep_their_layout(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    loose = loose_revisions(text)
    changed = pinned(text, {one.key: "d" * 40 for one in loose})
    different = [(a, b) for a, b in zip(text.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert len(different) == len(loose)
    assert all("revision: " in a and "d" * 40 in b for a, b in different)
