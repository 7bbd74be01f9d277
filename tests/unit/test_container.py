"""envs/unmask.def: its Python and packages are those of pyproject.toml, constraints.txt and the conda files."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from helpers.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["cluster"]]


@pytest.fixture
def sections():
    """The header of the definition under "", and the lines of each section by name, stripped."""
    found, name = {"": []}, ""
    for line in (ROOT / "envs/unmask.def").read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            name = line.removeprefix("%").strip()
            found[name] = []
        elif line.strip() and not line.strip().startswith("#"):
            found[name].append(line.strip())
    return found


def test_its_python_is_that_of_the_project_and_of_the_conda_environments(sections):
    header = dict(line.split(": ", 1) for line in sections[""])
    assert header["Bootstrap"] == "docker"
    version = re.fullmatch(r"python:(\d+\.\d+)-slim-\w+", header["From"])[1]
    assert version in SpecifierSet(PROJECT["requires-python"])
    for file in sorted((ROOT / "envs").glob("*.yaml")):
        packages = yaml.safe_load(file.read_text(encoding="utf-8"))["dependencies"]
        assert f"python ={version}" in packages, file.name


def test_its_list_of_requirements_is_the_projects(sections, tmp_path):
    text = (ROOT / "envs/unmask.def").read_text(encoding="utf-8")
    script = re.search(r"python > requirements.txt <<'END'\n(.*?)^END$", text, re.MULTILINE | re.DOTALL)[1]
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == REQUIRED
    installs = [line for line in sections["post"] if "pip install" in line]
    assert len(installs) == 1
    assert installs[0].endswith("-c constraints.txt -r requirements.txt")


def test_every_requirement_has_one_version_that_it_allows():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        pin = Requirement(line)
        pins[canonicalize_name(pin.name)] = pin
    for line in REQUIRED:
        needed = Requirement(line)
        (exact,) = pins[canonicalize_name(needed.name)].specifier
        assert exact.operator == "=="
        assert exact.version in needed.specifier, line


def test_the_files_that_it_copies_exist_and_the_workflow_names_the_image(sections):
    assert {line.split()[0] for line in sections["files"]} == {"pyproject.toml", "constraints.txt"}
    assert all((ROOT / line.split()[0]).is_file() for line in sections["files"])
    assert 'container: f"{CLONE}/unmask.sif"' in (ROOT / "Snakefile").read_text(encoding="utf-8")
    assert "/unmask.sif" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
