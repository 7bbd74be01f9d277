"""Old names of settings: one line each, with the file, the key and what to write."""

import pytest

from helpers.configs import lines, put
from unmask.config.blame import by_file, file_of
from unmask.config.renames import RENAMED, TO_RUNTIME
from unmask.config.schema.runtime import Runtime
from unmask.config.schema.training import Training

PLACES = ["training", "fidelities.paper.training", "scales.smoke.training", "methods.dmpo", "scales.smoke.methods.dmpo",
          "methods.coupled_grpo.by_task.sudoku"]  # fmt: skip


def test_new_names_exist_and_old_ones_do_not():
    assert set(RENAMED.values()) <= Training.model_fields.keys()
    assert set(TO_RUNTIME) <= Runtime.model_fields.keys()
    assert not (RENAMED.keys() | set(TO_RUNTIME)) & Training.model_fields.keys()


@pytest.mark.parametrize("old", RENAMED)
@pytest.mark.parametrize("place", PLACES)
def test_a_renamed_key_is_one_line_with_the_new_name(config, place, old):
    new = RENAMED[old]
    value = config["training"][new]
    if place == "training":
        del config["training"][new]  # as in a config.yaml of before: the old key in the place of the new one
    put(config, f"{place}.{old}", value)
    assert lines(config) == [f"{place}: '{old}' has been renamed; write '{new}' (CHANGELOG.md, Upgrade)"]


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_key_of_a_grid_is_one_line(config, old):
    put(config, "experiments.main.grid", {old: [1, 2, 3]})
    (line,) = lines(config)
    assert line == f"experiments.main.grid: '{old}' has been renamed; write '{RENAMED[old]}' (CHANGELOG.md, Upgrade)"


@pytest.mark.parametrize("place", PLACES)
def test_a_key_that_is_now_in_runtime_says_so(config, place):
    put(config, f"{place}.activation_checkpointing", True)
    (line,) = lines(config)
    assert line.startswith(f"{place}: 'activation_checkpointing' has moved; set it in `runtime`, or in that of a scale")


def test_the_file_with_the_old_key_is_named(config, monkeypatch):
    put(config, "scales.smoke.training.gradient_clip", 0.5)
    (line,) = lines(config)
    assert file_of(line, config) == "config.yaml"
    assert by_file([line], config).startswith("config.yaml has 1 mistake:\n  - scales.smoke.training: 'gradient_clip'")
    name, given = "workflow/config/scales/smoke.yaml", {"scales": {"smoke": {"training": {"gradient_clip": 0.5}}}}
    monkeypatch.setattr("unmask.config.blame._default_settings", lambda: {name: given})
    assert file_of(line, config) == name


def test_a_name_that_only_looks_old_is_unknown(config):
    """A sampler, say, has never had a setting `warmup`."""
    put(config, "evaluations.papers.samplers", ["warmup"])
    (line,) = lines(config)
    assert line.startswith("evaluations.papers.samplers: unknown 'warmup'")
