"""config.yaml: the grid it expands to, and everything that can be wrong with it."""

import copy

import pytest

from unmask.grid import expand
from unmask.mistakes import ConfigError
from unmask.spec import Run


def lines(config):
    with pytest.raises(ConfigError) as caught:
        expand(config)
    return caught.value.lines


@pytest.mark.parametrize("scale", ["laptop", "smoke", "llada-8b"])
def test_every_scale_expands(config, scale):
    config["scale"] = scale
    grid = expand(config)
    assert grid.runs
    assert set(grid.wanted) <= set(grid.experiments)


def test_all_mistakes_are_reported_in_one_run(config):
    config["methods"]["dmpo"]["alhpa"] = 0.1
    config["training"]["weight_decay"] = "much"
    config["experiments"]["main"]["methods"].append("dmpoo")
    config["scales"]["smoke"]["lengths"].append(30)
    assert lines(config) == [
        "experiments.main.methods: unknown 'dmpoo'; did you mean 'dmpo'?",
        "training.weight_decay: input should be a valid number, not 'much'",
        "methods.dmpo: unknown 'alhpa'; did you mean 'alpha'?",
        "scales.smoke.lengths: 30 is not a multiple of block_length 8; try 32",
    ]


def test_missing_key_names_its_place(config):
    del config["methods"]["dmpo"]["copies"]
    assert lines(config) == ["methods.dmpo.copies: missing; add it"]


def test_grid_values_are_checked(config):
    config["experiments"]["main"]["grid"] = {"baseline": ["none", "gruop"], "group_sise": [4]}
    assert lines(config) == [
        "experiments.main.grid.baseline: input should be 'none', 'group', 'individual' or 'model', not 'gruop'",
        "experiments.main.grid: unknown 'group_sise'; did you mean 'group_size'?",
    ]


@pytest.mark.parametrize("broken", [None, 3, "text", [], {"main": None}])
@pytest.mark.parametrize("key", ["training", "methods", "tasks", "scales", "experiments", "samplers", "evaluations"])
def test_a_broken_block_is_a_mistake_not_a_traceback(config, key, broken):
    config[key] = broken
    assert any(line.startswith(key) for line in lines(config))


def test_exponent_without_point_is_a_number(config):
    config["training"]["learning_rate"] = "3e-6"  # what YAML 1.1 reads in 3e-6
    assert expand(config).runs


def test_one_setting_changes_the_specs_that_have_it_and_no_others(config):
    before = {name: run.digest for name, run in expand(config).runs.items()}
    changed = copy.deepcopy(config)
    changed["methods"]["dmpo"]["alpha"] = 0.05
    after = {name: run.digest for name, run in expand(changed).runs.items()}
    assert {name for name in before if before[name] != after[name]} == {n for n in before if n.startswith("dmpo/")}


def test_a_grid_value_equal_to_the_default_is_the_default_run(config):
    config["experiments"]["main"]["grid"] = {"baseline": ["group", "none"], "clip": [0.5, 0.2]}
    names = expand(config).experiments["main"].runs
    assert "dmpo/sudoku/default/seed-0" in names
    assert "dmpo/sudoku/baseline~none/seed-0" in names
    assert "diffu_grpo/sudoku/clip~0.2/seed-0" in names
    assert "diffu_grpo/sudoku/baseline~none/seed-0" not in names


def test_a_run_that_starts_from_another_brings_it(config):
    config["experiments"]["main"]["methods"] = ["d1"]
    grid = expand(config)
    run = grid.runs["d1/sudoku/default/seed-0"]
    assert run.algorithm == "diffu_grpo"
    assert grid.adapter(run.start_from) == ["results/smoke/runs/sft/sudoku/default/seed-0/adapter"]
    assert run.start_from not in grid.experiments["main"].runs


def test_spec_survives_its_file(grid, tmp_path):
    run = next(iter(grid.runs.values()))
    run.write(tmp_path / "spec.yaml")
    assert Run.read(tmp_path / "spec.yaml") == run


def test_a_spec_with_an_unknown_key_is_named(tmp_path):
    (tmp_path / "spec.yaml").write_text("nmae: x\n")
    with pytest.raises(ValueError, match=r"spec\.yaml: not a Run: .*nmae"):
        Run.read(tmp_path / "spec.yaml")
