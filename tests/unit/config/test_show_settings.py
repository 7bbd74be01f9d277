"""show_settings.py: every setting with the layer and the line that decide it."""

import subprocess
import sys

import pytest

from unmask.config.loading import CONFIG, ROOT, default_files, load_config
from unmask.config.normalize import normalise
from unmask.config.origins import origins
from unmask.config.schema import Config

STEP = ROOT / "src/show_settings.py"
FILES = [*default_files(), CONFIG]


def show(*arguments):
    return subprocess.run([sys.executable, STEP, *arguments], capture_output=True, text=True, check=False)


def test_the_learning_rate_of_dmpo_on_countdown_is_set_by_the_laptop():
    done = show("dmpo/countdown", "--scale", "laptop", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("learning_rate ")]
    assert row[1:3] == ["0.0005", "scales.laptop.methods.dmpo.by_task.countdown"]
    assert row[3].startswith("workflow/config/tuned/laptop.yaml:")
    assert "learning_rate: 0.0005" in line_at(row[3])
    assert row[4:6] == ["training", "(3e-06),"]  # what it overrides, in order


def line_at(place):
    """The line of a file of the project that a place names, such as config.yaml:12."""
    name, _, number = place.rpartition(":")
    return (ROOT / name).read_text(encoding="utf-8").splitlines()[int(number) - 1]


def test_config_yaml_counts_where_it_overrides_another_file(tmp_path):
    own = tmp_path / "config.yaml"
    own.write_text(CONFIG.read_text() + "scales: {laptop: {training: {buffers: 64}}}\n", encoding="utf-8")
    done = show("dmpo/countdown", "--configfile", own, "--all")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if len(line.split()) > 3}
    assert rows["buffers"][:3] == ["64", "scales.laptop.training", f"{own}:{len(own.read_text().splitlines())}"]
    assert rows["lora_rank"][2].startswith("workflow/config/scales/laptop.yaml:")


def test_files_are_merged_over_config_yaml_as_snakemake_does(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("training: {buffers: 8}\nmethods: {dmpo: {buffers: 9, alpha: 0.1}}\n", encoding="utf-8")
    second.write_text("methods: {dmpo: {alpha: 0.2}}\n", encoding="utf-8")
    done = show("dmpo/countdown", "--configfile", first, second)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if len(line.split()) > 3}
    assert rows["buffers"] == ["9", "methods.dmpo", f"{first}:2"]
    assert rows["alpha"] == ["0.2", "methods.dmpo", f"{second}:1"]
    assert rows["baseline"][2].startswith("config.yaml:")


@pytest.mark.parametrize("scale", ["laptop", "llada-8b"])
@pytest.mark.parametrize("fidelity", ["corrected", "released"])
def test_every_setting_has_the_line_that_decides_it(scale, fidelity):
    config = Config.model_validate(normalise(load_config()) | {"scale": scale, "fidelity": fidelity})
    for method in config.methods:
        for task in config.scales[scale].tasks:
            found = origins(config.layers_of(method, task), FILES)
            assert {key: one.value for key, one in found.items()} == config.settings(method, task)
            for key, one in found.items():
                assert f"{key}:" in line_at(one.line), (method, task, key, one)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dmpo/chess"], "dmpo/chess: no task 'chess'; choose one of "),
        (["grpo/sudoku"], "grpo/sudoku: no method 'grpo'; choose one of base, "),
        (["dmpo/sudoku", "--scale", "desk"], "scale: unknown 'desk'"),
    ],
)
def test_mistakes_are_one_message(arguments, message):
    done = show(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
