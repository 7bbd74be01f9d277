"""config.yaml: the grid it expands to, and everything that can be wrong with it."""

import copy
import json
import math
import random

import pytest

from unmask.grid import expand
from unmask.mistakes import ConfigError
from unmask.spec import ModelSpec, Run


def lines(config):
    with pytest.raises(ConfigError) as caught:
        expand(config)
    return caught.value.lines


@pytest.mark.parametrize("scale", ["laptop", "smoke", "one-gpu", "llada-8b"])
def test_every_scale_expands(config, scale):
    config["scale"] = scale
    grid = expand(config)
    assert grid.runs
    assert set(grid.wanted) <= set(grid.experiments)


# Experiment -> figure, runs at laptop scale, models at laptop scale and at the papers'.
NAMED = {
    "dream": ("accuracy_by_length", 3 * 3, "tiny-dream", "dream-7b-instruct"),
    "joint_sampler": ("accuracy_by_nfe", 3 * 2 * 3, "tiny", "llada-8b-instruct"),
    "fixed_vs_adaptive": ("accuracy_by_nfe", 2 * 3, "tiny", "llada-8b-instruct"),
    "threshold_transfer": ("threshold_by_difficulty", 2 * 2 * 3, "tiny-shared", "llada-8b-instruct"),
    "weight_distribution": ("weight_distribution", 4 * 3, "tiny", "llada-8b-instruct"),
    "batch_size": ("accuracy_by_setting", 3 + 2 * 3, "tiny", "llada-8b-instruct"),
}


@pytest.mark.parametrize("name", NAMED)
def test_an_experiment_plans_a_table_and_a_figure_at_both_scales(config, name):
    figure, count, tiny, published = NAMED[name]
    for scale, model in (("laptop", tiny), ("llada-8b", published)):
        grid = expand(config | {"scale": scale})
        experiment = grid.experiments[name]
        root = f"results/{scale}"
        assert {f"{root}/tables/{name}.md", f"{root}/figures/{name}/{figure}.png"} <= set(grid.artifacts(name))
        assert {grid.runs[run].model.partition("/")[0] for run in experiment.runs} == {model}
        assert scale != "laptop" or len(experiment.runs) == count
        assert all(file.removesuffix(".parquet") for file in grid.samples(name))


def test_a_scale_may_have_its_own_settings_of_a_sampler(config):
    general = config["samplers"]["adaptive"]["gamma"]
    for scale, gamma in (("laptop", 0.003), ("smoke", general)):
        grid = expand(config | {"scale": scale})
        assert grid.runs["diffpo/countdown/sampler~adaptive/seed-0"].sampler["gamma"] == gamma
        assert grid.evaluations["adaptive"].samplers["adaptive"]["gamma"] == gamma


def test_a_scale_may_change_what_an_experiment_has(config):
    """At laptop scale Dream is trained on Sudoku alone; at the papers' `main` has every method."""
    runs = {scale: expand(config | {"scale": scale}).experiments for scale in ("laptop", "smoke", "llada-8b")}
    tasks = {scale: {run.split("/")[1] for run in runs[scale]["dream"].runs} for scale in ("laptop", "smoke")}
    assert tasks == {"laptop": {"sudoku"}, "smoke": {"sudoku", "countdown"}}
    methods = {scale: {run.split("/")[0] for run in runs[scale]["main"].runs} for scale in runs}
    few = {"base", "diffu_grpo", "dmpo"}
    assert methods == {"laptop": few, "smoke": few, "llada-8b": few | {"sft", "d1", "coupled_grpo", "diffpo"}}


def test_runs_are_shared_where_settings_are_the_same(config):
    grid = expand(config | {"scale": "laptop"})
    runs = {name: set(experiment.runs) for name, experiment in grid.experiments.items()}
    assert runs["fixed_vs_adaptive"] < runs["joint_sampler"]
    assert runs["weight_distribution"] < runs["weight_baselines"]
    assert runs["batch_size"] & runs["main"] == {
        f"{method}/sudoku/default/seed-{seed}" for method in ("base", "dmpo") for seed in range(3)
    }


def test_another_model_stands_in_the_address_of_its_runs_and_of_those_they_start_from(config):
    grid = expand(config | {"scale": "laptop"})
    run = grid.runs["d1/sudoku/model~tiny-dream/seed-0"]
    assert (run.variant, run.model) == ("default", "tiny-dream/sudoku/seed-0")
    assert run.start_from == "sft/sudoku/model~tiny-dream/seed-0"
    assert grid.models[run.model].settings["family"] == "dream"
    assert "family" not in grid.models["tiny/sudoku/seed-0"].settings


def test_a_shared_model_is_made_once_a_seed_of_the_data_of_all_its_tasks(config):
    grid = expand(config)
    assert {run.model for name, run in grid.runs.items() if "smoke-shared" in name} == {
        "smoke-shared/seed-0", "smoke-shared/seed-1"
    }  # fmt: skip
    spec = grid.models["smoke-shared/seed-0"]
    assert list(spec.tasks) == sorted(spec.pretraining) == ["chain", "countdown", "simplify", "sudoku"]
    assert list(ModelSpec(**json.loads(spec.to_json())).tasks) == list(spec.tasks)
    assert grid.model_data(spec.name)[:2] == [f"results/smoke/data/chain/{s}.parquet" for s in ("train", "validation")]
    assert len(grid.model_data(spec.name)) == 8
    assert set(spec.tasks) <= set(grid.datasets)


@pytest.mark.parametrize("scale", ["laptop", "llada-8b"])
def test_a_transferred_policy_is_examined_on_the_other_task_in_a_variant_of_its_own(config, scale):
    grid = expand(config | {"scale": scale})
    experiment = grid.experiments["threshold_transfer"]
    other = {"sudoku": "countdown", "countdown": "sudoku"}
    assert experiment.transfers == {
        name: [other[grid.runs[name].task]] for name in experiment.runs if name.startswith("diffpo/")
    }
    assert len(grid.samples("threshold_transfer")) == len(experiment.runs) + len(experiment.transfers)
    run = next(grid.runs[name] for name in experiment.transfers if "/sudoku/" in name)
    evaluation = grid.evaluations["adaptive-on-countdown"]
    seen = run.examined_by(evaluation)
    assert (seen.task, seen.variant) == ("countdown", "learn~sampler+sampler~adaptive+trained_on~sudoku")
    assert seen.task_settings == grid.datasets["countdown"].settings
    assert grid.examined_task(run.name, "adaptive-on-countdown") == "countdown"
    assert run.examined_by(grid.evaluations["adaptive"]) is run


def test_four_tasks_has_the_papers_columns_and_shares_the_runs_of_main(config):
    grid = expand(config | {"scale": "laptop"})
    main, four = (set(grid.experiments[name].runs) for name in ("main", "four_tasks"))
    assert main < four
    assert {run.split("/")[1] for run in four - main} == {"chain", "simplify"}
    assert "four_tasks" not in grid.wanted + grid.everything
    assert set(grid.everything) == set(grid.experiments) - {"four_tasks"}
    config["scales"]["laptop"]["experiments"] = ["four_tasks"]
    assert set(expand(config | {"scale": "laptop"}).everything) == set(grid.experiments)
    assert set(grid.datasets) == {"sudoku", "countdown", "chain", "simplify"}
    assert len(four) == 3 * 4 * 3


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


def test_an_unknown_key_with_a_dot_is_named_whole(config):
    config["training"]["weight.decay"] = config["sclae.s"] = 0.1
    assert lines(config) == [
        "config.yaml: unknown 'sclae.s'; did you mean 'scales'?",
        "training: unknown 'weight.decay'; did you mean 'weight_decay'?",
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
    changed["methods"]["dmpo"]["eta"] = 26.0
    after = {name: run.digest for name, run in expand(changed).runs.items()}
    assert {name for name in before if before[name] != after[name]} == {n for n in before if n.startswith("dmpo/")}


def test_a_grid_value_equal_to_the_default_is_the_default_run(config):
    config["experiments"]["main"]["grid"] = {"baseline": ["group", "none"], "clip": [0.5, 0.2]}
    names = expand(config).experiments["main"].runs
    assert "dmpo/sudoku/default/seed-0" in names
    assert "dmpo/sudoku/baseline~group/seed-0" in names
    assert "diffu_grpo/sudoku/clip~0.2/seed-0" in names
    assert "diffu_grpo/sudoku/baseline~none/seed-0" not in names


@pytest.mark.parametrize("scale", ["laptop", "smoke", "llada-8b"])
def test_reused_buffers_leave_the_number_of_updates_alone(config, scale):
    """But for rounding up to a whole buffer."""
    grid = expand(config | {"scale": scale})
    runs = [grid.runs[name].training for name in grid.experiments["buffer_reuse"].runs if name.startswith("dmpo")]
    default = grid.runs["dmpo/sudoku/default/seed-0"].training
    wanted = default["buffers"] * default["updates_per_buffer"]
    assert {t["updates_per_buffer"] for t in runs} == ({1, 4, 24} if scale == "laptop" else {1, 4, 8, 24})
    assert all(0 <= t["buffers"] * t["updates_per_buffer"] - wanted < t["updates_per_buffer"] for t in runs)


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


def put(config, path, value):
    """Set the value at a dotted path."""
    *blocks, key = path.split(".")
    for block in blocks:
        config = config.setdefault(block, {})
    config[key] = value


WRONG = {  # path: (value, the line that says so)
    "methods.d1.by_task": (None, "methods.d1.by_task: input should be a valid dictionary, not None"),
    "methods.d1.start_from": (["sft"], "methods.d1.start_from: input should be a valid string, not ['sft']"),
    "methods.d1.algorithm": (3, "methods.d1.algorithm: input should be a valid string, not 3"),
    "methods.d1.by_task.sudokuu": ({"clip": 0.1}, "methods.d1.by_task: unknown 'sudokuu'; did you mean 'sudoku'?"),
    "methods.dmpo.copies": (3, "methods.dmpo.copies: input should be a multiple of 2, not 3"),
    "methods.dmpo.elbo_copies": (0, "methods.dmpo.elbo_copies: input should be greater than or equal to 2, not 0"),
    "methods.d1.lora_rank": (8, "methods.d1.lora_rank: 8 cannot go on training an adapter of sft with 4"),
    "training": (None, "training: input should be a valid dictionary, not None"),
    "training.adam_beta1": (1.0, "training.adam_beta1: input should be less than 1, not 1.0"),
    "training.learning_rate": (math.inf, "training.learning_rate: input should be a finite number, not inf"),
    "training.lora_targets": ([], "training.lora_targets: list should have at least 1 item after validation, not 0"),
    "scale": (9, "scale: input should be a valid string, not 9"),
    "scales.smoke.seeds": ([0, 0, 1], "scales.smoke.seeds: 0 stands there twice; remove one"),
    "scales.smoke.cost.test_examples": ({"gsm9k": 1}, "scales.smoke.cost.test_examples: unknown 'gsm9k'; did you mean"),
    "scales.smoke.cost.training_utilisation": (0, "scales.smoke.cost.training_utilisation: input should be greater"),
    "scales.smoke.tasks": (["gsm8k"], "models.smoke.pretraining.gsm8k: missing; scales.smoke.tasks has gsm8k"),
    "scales.smoke.exact_toy.curves": ({"x": {"method": "dmpoo"}}, "scales.smoke.exact_toy.curves.x.method: unknown "),
    "scales.smoke.exact_toy.methods": ({"dmpo": {"alhpa": 1}}, "scales.smoke.exact_toy.methods.dmpo: unknown 'alhpa'"),
    "scales.smoke.methods.d1": ({"start_from": "sft"}, "scales.smoke.methods.d1: unknown 'start_from'; remove it"),
    "scales.smoke.exact_toy.modes": (82, "scales.smoke.exact_toy: modes 82 is more than vocabulary**length, 81"),
    "exact_toy.group_sizes": ([4, 5], "exact_toy: samples_per_buffer 64 is not a multiple of group size 5"),
    "exact_toy.curves.group.learning_rate": (0.1, "exact_toy.curves.group.dmpo: unknown 'learning_rate'; "),
    "exact_toy.curves.group": ({}, "exact_toy.curves.group.method: missing; add it"),
    "experiments.train_policy": ({}, "experiments: 'train_policy' is a target of the workflow; choose another name"),
    "experiments.exact_toy": ({}, "experiments: 'exact_toy' is a target of the workflow; choose another name"),
    "experiments.everything": ({}, "experiments: 'everything' is a target of the workflow; choose another name"),
    "experiments.all": ({}, "experiments: 'all' is a target of the workflow; choose another name"),
    "experiments.Bad": ({}, "experiments.Bad: string should match pattern"),
    "experiments.main.figures": (["training_curve"], "experiments.main.figures: unknown 'training_curve'; did you"),
    "experiments.main.tasks": (["gsm8k"], "models.smoke.pretraining.gsm8k: missing; experiments.main.tasks has gsm8k"),
    "experiments.methods.tasks": ([], "experiments.methods.tasks: list should have at least 1 item"),
    "experiments.main.methods": (["base", "base"], "experiments.main.methods: 'base' stands there twice; remove one"),
    "experiments.main.grid": ({"baseline": []}, "experiments.main.grid.baseline: list should have at least 1 item"),
    "experiments.methods.grid": ({"lora_rank": [8]}, "methods.d1.lora_rank: 8 cannot go on training an adapter of sft"),
    "evaluations.papers.samplers": (["top1", "top1"], "evaluations.papers.samplers: 'top1' stands there twice"),
    "models.smoke.source": ("x" * 500, "models.smoke.source: input should be 'scratch', 'hub', 'local', not 'xxx"),
    "models.smoke.heads": (3, "models.smoke.scratch: hidden_size 16 is not an even multiple of heads 3"),
    "models.smoke.pretraining.sudokuu": ({}, "models.smoke.pretraining: unknown 'sudokuu'; did you mean 'sudoku'?"),
    "models.tiny.pretraining.sudoku.gate": ([0.9, 0.5], "models.tiny.scratch.pretraining.sudoku.gate: [0.9, 0.5] "),
    "models.tiny-shared.pretraining.countdown.updates": (4, "models.tiny-shared.scratch: a shared model has one"),
    "models.smoke.pretraining": ({}, "models.smoke.scratch.pretraining: dictionary should have at least 1 item"),
    "scales.smoke.samplers.top": (
        {"rule": "top_k", "k": 1},
        "scales.smoke.samplers: unknown 'top'; did you mean 'top",
    ),
    "scales.smoke.samplers.adaptive": ({"rule": "adaptive"}, "scales.smoke.samplers.adaptive.adaptive.gamma: missing"),
    "scales.smoke.samplers.top1": (
        {"rule": "random_order"},
        "scales.smoke.samplers.top1.rule: 'random_order' is not the rule of samplers.top1; give another rule",
    ),
    "scales.smoke.experiment_changes.main.tasks": (
        ["gsm8k"],
        "models.smoke.pretraining.gsm8k: missing; scales.smoke.experiment_changes.main.tasks has gsm8k",
    ),
    "scales.smoke.experiment_changes.weight_baselines.methods": (
        ["base", "diffu_grpo"],
        "experiments.weight_baselines.grid: unknown 'baseline'; ",
    ),
    "scales.smoke.experiment_changes.group_size": (
        {"grid": {"group_sise": [4]}},
        "scales.smoke.experiment_changes.group_size.grid: unknown 'group_sise'; did you mean 'group_size'?",
    ),
    "scales.smoke.experiment_changes.batch_size": (
        {"grid": {"prompts_per_buffer": [2]}},
        "experiments.batch_size.figures: accuracy_by_setting needs a setting to draw against",
    ),
    "scales.smoke.experiment_changes.likelihood": (
        {"methods": ["base", "dmpo"], "grid": None},
        "experiments.likelihood.grid: unknown 'surrogate'",
    ),
    "scales.smoke.experiment_changes.alpha": (
        {"grid": {"alpha": [-1.0]}},
        "scales.smoke.experiment_changes.alpha.grid.alpha: input should be greater than",
    ),
    "scales.smoke.experiment_changes.dram": ({}, "scales.smoke.experiment_changes: unknown 'dram'; did you mean "),
    "scales.smoke.experiment_changes.dream": (
        {"tasks": ["sudok"], "methods": ["bas"]},
        "scales.smoke.experiment_changes.dream.tasks: unknown 'sudok'; did you mean 'sudoku'?",
    ),
    "scales.laptop.experiment_changes.main": (
        {"methods": []},
        "scales.laptop.experiment_changes.main.methods: list should have at least 1",
    ),
    "scales.smoke.models": ({}, "scales.smoke.models.dream: missing; experiments.dream.model asks for it"),
    "scales.smoke.models.dream": ("smoke-dreem", "scales.smoke.models: unknown 'smoke-dreem'; did you mean 'smoke-d"),
    "experiments.dream.model": ("draem", "scales.smoke.models.draem: missing; experiments.dream.model asks for it"),
    "experiments.kl_per_step.transfer": (True, "experiments.kl_per_step: transfer needs an evaluation"),
    "tasks.sudoku.min_blanks": (12, "tasks.sudoku.min_blanks: 12 is more than max_blanks 11"),
}


@pytest.mark.parametrize("path", WRONG)
def test_a_wrong_value_is_said_with_its_place(config, path):
    value, line = WRONG[path]
    put(config, path, value)
    assert any(found.startswith(line) for found in lines(config)), lines(config)


def test_a_block_that_is_no_mapping_is_one_mistake(config):
    assert lines(config | {"training": None}) == ["training: input should be a valid dictionary, not None"]


@pytest.mark.parametrize("whole", [None, [], "text", 3])
def test_a_whole_that_is_no_mapping_is_one_mistake(whole):
    assert lines(whole) == [f"config.yaml: input should be a valid dictionary, not {whole!r}"]


@pytest.mark.parametrize("values", [["../x y;$(rm)"], ["q_proj", "q_proj"], ["lm_head"], []])
def test_adapters_are_of_known_projections(config, values):
    config["experiments"]["main"]["grid"] = {"lora_targets": [values]}
    assert all(line.startswith("experiments.main.grid.lora_targets") for line in lines(config))


def test_numbers_as_names_are_names(config):
    config["scales"][9] = config["scales"]["smoke"]
    assert expand(config | {"scale": "9"}).scale == "9"


def test_grid_values_that_are_equal_are_refused(config):
    config["experiments"]["main"]["grid"] = {"clip": [1, 1.0]}
    assert lines(config) == ["experiments.main.grid.clip: 1.0 stands there twice; remove one"]


def test_a_grid_over_training_leaves_the_base_model_alone(config):
    config["experiments"]["main"]["grid"] = {"lora_targets": [["q_proj", "v_proj"], ["o_proj"]]}
    runs = expand(config).experiments["main"].runs
    assert [run for run in runs if run.startswith("base/sudoku")] == [f"base/sudoku/default/seed-{s}" for s in (0, 1)]
    assert "dmpo/sudoku/lora_targets~q_proj-v_proj/seed-0" in runs


def test_values_with_one_name_in_paths_are_refused(config, monkeypatch):
    monkeypatch.setattr("unmask.grid.runs._text", lambda value: "same")
    config["experiments"]["main"]["grid"] = {"clip": [0.1, 0.2]}
    config["experiments"] = {"main": config["experiments"]["main"]}
    for scale in config["scales"].values():
        scale["experiment_changes"] = {}
    (line,) = lines(config)
    assert line.endswith("two values have the same name in paths: diffu_grpo, clip~same")


def test_a_curve_runs_the_algorithm_of_its_method(config):
    config["exact_toy"]["curves"]["d1"] = {"method": "d1"}
    assert expand(config).exact_toy.curves["d1"]["method"] == "diffu_grpo"


def blocks_of(values):
    """Every mapping in a configuration, from the outside in."""
    if isinstance(values, dict):
        yield values
        for value in values.values():
            yield from blocks_of(value)


def mutated(config, rng):
    """The configuration with one key deleted, renamed or set to something odd."""
    config = copy.deepcopy(config)
    block = rng.choice([block for block in blocks_of(config) if block])
    key = rng.choice(list(block))
    odd = rng.choice([None, 3, "", [], {}, "$(x)", -1, math.nan, [None], [[]], {"x": None}, {3: 3}, True])
    new = rng.choice([{}, {f"{key}x": block[key]}, {3: block[key]}, {None: block[key]}, *[{key: odd}] * 6])
    del block[key]
    block.update(new)
    return config


def mistakes(config):
    """What is wrong with a configuration; nothing if it works."""
    try:
        expand(config)
    except ConfigError as error:
        return error.lines
    return []


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_no_mutation_ends_in_a_traceback(config, scale):
    """Works or is refused, whatever one key of config.yaml is deleted, renamed or set to."""
    rng = random.Random(0)
    found = [mistakes(mutated(config | {"scale": scale}, rng)) for _ in range(200)]
    assert sum(map(bool, found)) > 100
    assert not [line for said in found for line in said if "[key]" in line or "Optional" in line]
