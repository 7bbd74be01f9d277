"""Messages before a workflow starts: YAML syntax with its line, questions in the list, help of a step."""

import shutil
import subprocess
import sys

from helpers.paths import ROOT
from unmask.config.loading import load_config, syntax_error


def test_a_yaml_error_has_its_line(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a: 1\nb: [1, 2\nc: 3\n", encoding="utf-8")
    assert f"{file}, line 3, column 2: " in syntax_error(str(file))
    file.write_text("a: 1\n\tb: 2\n", encoding="utf-8")
    assert f"{file}, line 2, column 1: " in syntax_error(str(file))
    file.write_bytes(b"a: \xff\n")
    assert "not UTF-8 text" in syntax_error(str(file))
    assert syntax_error(str(ROOT / "config.yaml")) is None
    assert syntax_error(str(tmp_path / "none.yaml")) is None


def test_the_workflow_says_it(tmp_path):
    for name in ("src", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy2(ROOT / "Snakefile", tmp_path)
    (tmp_path / "config.yaml").write_text("scale: smoke\n  x: 1\n", encoding="utf-8")
    done = subprocess.run(
        ["snakemake", "-n", "--cores", "1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "config.yaml, line 2, column 4: " in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_the_list_has_every_question():
    done = subprocess.run(["snakemake", "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    config = load_config()
    said = done.stdout + done.stderr
    assert all(f"{name} ({one['question']})" in said for name, one in config["experiments"].items())


def test_write_spec_has_help():
    done = subprocess.run(
        [sys.executable, ROOT / "src/write_spec.py", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "DataSpec" in done.stdout
