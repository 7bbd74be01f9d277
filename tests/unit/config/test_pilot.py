"""The pilot of a scale: from data to a table with its model, cheap, and in a folder of its own."""

import subprocess

import pytest

from helpers.paths import ROOT
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.planning.estimates import estimates


def snakemake(folder, *words):
    command = ["snakemake", "--profile", ROOT / "workflow/profiles/smoke", "-s", ROOT / "Snakefile"]
    done = subprocess.run([*command, "--directory", folder, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("scale", ["smoke", "laptop", "one-gpu", "one-gpu-0.6b", "llada-8b"])
def test_every_scale_has_one(config, scale):
    grid = expand(config | {"scale": f"{scale}-pilot"})
    assert grid.scale == f"{scale}-pilot"
    assert grid.experiments["main"].runs == ["base/sudoku/default/seed-0", "dmpo/sudoku/default/seed-0"]
    whole = expand(config | {"scale": scale})
    name = "dmpo/sudoku/default/seed-0"
    mine, its = grid.runs[name], whole.runs[name]
    assert mine.training.buffers == min(10, its.training.buffers)
    assert mine.training.validate_every == min(5, its.training.validate_every)
    same = {"buffers", "validate_every"}
    assert {k: v for k, v in mine.training.values().items() if k not in same} == {
        k: v for k, v in its.training.values().items() if k not in same
    }
    assert mine.model == its.model


def test_it_costs_a_hundredth(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def hours(scale):
        grid = expand(config | {"scale": scale})
        runs = grid.experiments["main"].runs
        evaluations = {run: [one.removeprefix("samples-") for one in grid.measured("main", run)] for run in runs}
        found = estimates(grid, evaluations, {})
        return sum((one.training or 0) + (one.evaluation or 0) for one in found.values())

    assert hours("llada-8b-pilot") < hours("llada-8b") / 100
    assert hours("llada-8b-pilot") < 5


def test_the_pilot_of_no_scale_is_a_mistake(config):
    with pytest.raises(ConfigError, match="scale: unknown 'nothing-pilot'"):
        expand(config | {"scale": "nothing-pilot"})


def test_it_goes_through_to_a_table(tmp_path):
    code, output = snakemake(tmp_path, "pilot")
    assert code == 0, output
    table = (tmp_path / "results/smoke-pilot/tables/main.md").read_text(encoding="utf-8")
    assert "DMPO" in table
    assert not (tmp_path / "results/smoke").exists()
    for words in (
        ["-n", "pilot"],
        ["-n", "pilot", "--config", "scale=smoke"],
        ["-n", "--config", "scale=smoke", "--", "pilot"],
    ):
        code, output = snakemake(tmp_path, *words)
        assert code == 0, output
        assert "Nothing to be done" in output
