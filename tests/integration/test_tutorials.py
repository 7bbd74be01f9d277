"""docs/develop/add_a_method.md and add_a_task.md: what they say to write and run is written and run, at smoke scale."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from helpers.paths import ROOT
from unmask.config.loading import merge, read_settings

# A fenced block with the paragraph before it, which names the file that it belongs to.
BLOCK = re.compile(r"([^\n]+)\n\n```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = ("add_a_method.md", "add_a_task.md")
READERS_OF_CONFIG = (
    "unit/config/test_grid.py",
    "unit/config/test_validation.py",
    "unit/config/test_fidelity.py",
    "unit/analysis/test_claims_file.py",
    "unit/test_architecture.py",
    "unit/planning/test_status.py",
    "unit/planning/test_estimates.py",
    "unit/training/test_pretrain.py",
)


@pytest.fixture
def clone(tmp_path):
    """A copy of what runs, for a newcomer to change."""
    for name in ("src", "workflow", "envs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Snakefile", "config.yaml", "pyproject.toml", "tests/conftest.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def add(config, blocks):
    """Add blocks to a config.yaml, under the keys of the same name."""
    settings = merge(read_settings(config), blocks)
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def follow(page, clone):
    """Write the files and blocks of a page; returns the commands that it gives."""
    commands = []
    for before, language, text in BLOCK.findall((ROOT / "docs" / "develop" / page).read_text(encoding="utf-8")):
        if language == "python":
            name = re.findall(r"`((?:src|tests)/\S+\.py)`", before)[-1]
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_text(text, encoding="utf-8")
        elif language == "yaml":
            add(clone / "config.yaml", yaml.safe_load(text))
        else:
            commands += text.splitlines()
    return commands


@pytest.mark.parametrize(("page", "name", "run"), [
    ("add_a_method.md", "rloo", "rloo/sudoku/default/seed-0"),
    ("add_a_task.md", "ascending", "dmpo/ascending/default/seed-0"),
])  # fmt: skip
def test_a_newcomer_gets_from_the_page_to_a_table(clone, page, name, run):
    commands = follow(page, clone)
    add(clone / "config.yaml", {"scales": {"smoke": {"seeds": [0]}}})  # one is enough to see that it runs
    assert [command.split()[0] for command in commands] == ["pytest", "snakemake", "snakemake"]
    for command in commands:
        words = shlex.split(command.replace("--profile laptop", "--profile workflow/profiles/smoke"))
        done = subprocess.run(words, cwd=clone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    results = clone / "results/smoke"
    assert (results / "runs" / run / "manifest.json").exists()
    assert "Base" in (results / f"tables/{name}.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_base_model_of_the_new_task_passes_its_gate_at_laptop_scale(clone):
    """Of the first seed. Two minutes: `pytest -m slow tests/integration/test_tutorials.py`."""
    follow("add_a_task.md", clone)
    model = "results/laptop/models/tiny/ascending/seed-0"
    words = ["snakemake", "--profile", "workflow/profiles/laptop", f"{model}/manifest.json"]
    done = subprocess.run(words, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((clone / model / "manifest.json").read_text(encoding="utf-8"))
    assert found["competence"]["ascending"] >= 0.8
    assert 0.2 < found["quality"]["ascending"] < 0.5  # well inside the gate


def test_what_the_pages_add_leaves_the_other_tests_of_the_configuration_green(clone):
    for page in PAGES:
        follow(page, clone)
    for name in ("tests", "docs"):
        shutil.copytree(ROOT / name, clone / name, dirs_exist_ok=True)
    names = [f"tests/{name}" for name in READERS_OF_CONFIG]
    command = ["pytest", "-q", "-x", "-p", "no:cacheprovider", *names]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_code_of_the_pages_is_clean(clone):
    for page in PAGES:
        follow(page, clone)
    written = [str(clone / name) for name in ("src", "tests")]
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = subprocess.run([*command, *written], cwd=clone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
