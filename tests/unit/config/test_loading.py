"""Configuration files: config.yaml over workflow/config/, and the file that a mistake is in."""

import re
import shutil
import subprocess
import sys

import pytest

from helpers.configs import put
from helpers.paths import ROOT
from unmask.common.errors import InputError
from unmask.config.blame import by_file, file_of
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.loading import CONFIG, default_files, load_config, merge, read_settings, with_defaults


@pytest.fixture
def clone(tmp_path):
    """A copy of what the workflow reads before it starts."""
    for name in ("src", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy2(ROOT / name, tmp_path)
    return tmp_path


def dry_run(clone, *words):
    command = ["snakemake", "-n", "--cores", "1", "--config", "scale=smoke", *words]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def keys(values, path=()):
    """Paths of all single settings."""
    if isinstance(values, dict) and values:
        return [key for name, value in values.items() for key in keys(value, (*path, name))]
    return [path]


def test_every_setting_is_in_one_file():
    found = [key for file in [*default_files(), CONFIG] for key in keys(read_settings(file))]
    assert len(found) == len(set(found))


def test_config_yaml_overrides_one_nested_key_of_a_scale():
    plain = load_config()
    whole = with_defaults({"scales": {"laptop": {"training": {"buffers": 64}}}})
    assert whole["scales"]["laptop"]["training"]["buffers"] == 64
    put(whole, "scales.laptop.training.buffers", plain["scales"]["laptop"]["training"]["buffers"])
    assert whole["scales"] == plain["scales"]


def test_a_grid_replaces_the_whole_grid():
    grid = {"grid": {"updates_per_buffer": [1, 4, 24]}}
    assert merge(grid, {"grid": {"group_size": [4, 8]}}) == {"grid": {"group_size": [4, 8]}}


def test_a_section_without_lines_is_not_given():
    assert with_defaults({"scales": None, "tasks": None}) == with_defaults({})


def test_a_source_or_rule_replaces_the_whole_block_and_other_blocks_change_key_by_key():
    values = {"task": {"train_source": {"source": "hub", "revision": "1"}, "train": 9, "test": 8}}
    changes = {"task": {"train_source": {"source": "local", "path": "x"}, "train": 1}}
    assert merge(values, changes) == {"task": {"train_source": {"source": "local", "path": "x"}, "train": 1, "test": 8}}
    assert merge({"test_subset": {"rule": "numpy_choice", "seed": 42}}, {"test_subset": {"rule": "first"}}) == {
        "test_subset": {"rule": "first"}
    }
    revision = {"task": {"train_source": {"revision": "2"}}}
    assert merge(values, revision)["task"]["train_source"] == {"source": "hub", "revision": "2"}


def test_a_config_yaml_with_every_setting_wins_everywhere():
    whole = load_config()
    put(whole, "tasks.gsm8k.train_source", {"source": "local", "path": "x.jsonl"})
    put(whole, "scales.llada-8b.lengths", [128])
    assert with_defaults(whole) == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"models:\n  tiny: [1, 2\n", "models.yaml, line 3, column 1: "),
        (b"models: \xff\n", "models.yaml: not UTF-8 text"),
        (b"# nothing\n", "models.yaml: has no settings"),
        (b"- models\n", "models.yaml: has no settings"),
        (b"? [a]\n: 1\n", "models.yaml, line 1, column 3: "),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    file = tmp_path / "models.yaml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_settings(file)


def test_a_broken_default_file_is_one_error(clone):
    (clone / "workflow/config/models.yaml").write_text("models:\n  tiny: {source: scratch\n", encoding="utf-8")
    code, output = dry_run(clone)
    assert code == 1
    assert output.count("workflow/config/models.yaml, line 3, column 1: ") == 1
    assert "Traceback" not in output
    command = [sys.executable, clone / "src/show_settings.py", "dmpo/sudoku"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("show_settings: ")
    assert "workflow/config/models.yaml, line 3, column 1: " in done.stderr


def test_the_workflow_names_the_file_of_a_mistake_and_follows_config_yaml(clone):
    models = clone / "workflow/config/models.yaml"
    models.write_text(models.read_text().replace("mlp_size: 176", "mlp_sise: 176"), encoding="utf-8")
    own = clone / "config.yaml"
    own.write_text(own.read_text() + "tasks: {sudoku: {train: few}}\n", encoding="utf-8")
    code, output = dry_run(clone)
    assert code == 1
    assert "config.yaml has 1 mistake:\n  - tasks.sudoku.train: " in output
    assert re.search(r"workflow/config/models\.yaml has \d+ mistakes:\n  - models\.tiny\.scratch", output)
    assert "  - models.tiny.scratch: unknown 'mlp_sise'; did you mean 'mlp_size'?" in output


MISTAKES = [  # a setting of a default file, and one that config.yaml or the command line gives
    ("models.tiny.hiden", "models.yaml"),
    ("models.llada-1.5.repository", "models.yaml"),
    ("tasks.gsm8k.train_source.subset", "tasks.yaml"),
    ("tasks.gsm8k.train_source.source", "tasks.yaml"),
    ("scales.smoke.seeds", "scales/smoke.yaml"),
    ("scales.smoke.methods.dmpo.smpler", "scales/smoke.yaml"),
    ("fidelities.paper.methods.dmpo.sampler", "fidelities.yaml"),
    ("exact_toy.modes", "exact_toy.yaml"),
    ("modls", "tasks.yaml"),
]


@pytest.mark.parametrize(("path", "name"), MISTAKES)
def test_a_mistake_is_in_the_file_whose_value_counts(monkeypatch, path, name):
    config = load_config() | {"scale": "smoke"}
    put(config, path, [-1])
    with pytest.raises(ConfigError) as caught:
        expand(config)
    assert {file_of(line, config) for line in caught.value.lines} == {"config.yaml"}

    file = read_settings(ROOT / "workflow/config" / name)
    put(file, path, [-1])
    monkeypatch.setattr("unmask.config.blame._default_settings", lambda: {f"workflow/config/{name}": file})
    assert {file_of(line, config) for line in caught.value.lines} == {f"workflow/config/{name}"}
    assert by_file(caught.value.lines, config).startswith(f"workflow/config/{name} has ")
