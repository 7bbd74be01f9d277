"""Everything that can be wrong with config.yaml, and what is said of it."""

import copy
import math
import random

import pytest

from helpers.configs import lines, put
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand


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
    del config["training"]["adam_beta1"]
    assert lines(config) == ["training.adam_beta1: missing; add it"]


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


WRONG = {  # path: (value, the line that says so)
    "methods.d1.by_task": (None, "methods.d1.by_task: input should be a valid dictionary, not None"),
    "methods.d1.start_from": (["sft"], "methods.d1.start_from: input should be a valid string, not ['sft']"),
    "methods.d1.algorithm": (3, "methods.d1.algorithm: input should be a valid string, not 3"),
    "methods.d1.by_task.sudokuu": ({"clip": 0.1}, "methods.d1.by_task: unknown 'sudokuu'; did you mean 'sudoku'?"),
    "methods.dmpo.copies": (3, "methods.dmpo.copies: input should be a multiple of 2, not 3"),
    "methods.dmpo.elbo_copies": (0, "methods.dmpo.elbo_copies: input should be greater than or equal to 2, not 0"),
    "methods.d1.lora_rank": (8, "methods.d1.lora_rank: 8 cannot continue training an adapter of sft with 4"),
    "training": (None, "training: input should be a valid dictionary, not None"),
    "training.adam_beta1": (1.0, "training.adam_beta1: input should be less than 1, not 1.0"),
    "training.learning_rate": (math.inf, "training.learning_rate: input should be a finite number, not inf"),
    "training.lora_targets": ([], "training.lora_targets: list should have at least 1 item after validation, not 0"),
    "scale": (9, "scale: input should be a valid string, not 9"),
    "scales.smoke.seeds": ([0, 0, 1], "scales.smoke.seeds: 0 appears twice; remove one"),
    "scales.smoke.cost.test_examples": ({"gsm9k": 1}, "scales.smoke.cost.test_examples: unknown 'gsm9k'; did you mean"),
    "scales.smoke.cost.training_utilisation": (0, "scales.smoke.cost.training_utilisation: input should be greater"),
    "scales.smoke.tasks": (["gsm8k"], "models.smoke.pretraining.gsm8k: missing; scales.smoke.tasks has gsm8k"),
    "scales.smoke.exact_toy.curves": ({"x": {"method": "dmpoo"}}, "scales.smoke.exact_toy.curves.x.method: unknown "),
    "scales.smoke.exact_toy.methods": ({"dmpo": {"alhpa": 1}}, "scales.smoke.exact_toy.methods.dmpo: unknown 'alhpa'"),
    "scales.smoke.methods.d1": (
        {"start_from": "sft"},
        "scales.smoke.methods.d1: unknown 'start_from'; it belongs to methods.d1",
    ),
    "scales.smoke.exact_toy.modes": (82, "scales.smoke.exact_toy: modes 82 is more than vocabulary**length, 81"),
    "exact_toy.group_sizes": ([4, 5], "exact_toy: samples_per_buffer 64 is not a multiple of group size 5"),
    "exact_toy.curves.group.learning_rate": (0.1, "exact_toy.curves.group.dmpo: unknown 'learning_rate'; "),
    "exact_toy.curves.group": ({}, "exact_toy.curves.group.method: missing; add it"),
    "experiments.train_policy": ({}, "experiments: 'train_policy' is a target of the workflow; choose another name"),
    "experiments.exact_toy": ({}, "experiments: 'exact_toy' is a target of the workflow; choose another name"),
    "experiments.everything": ({}, "experiments: 'everything' is a target of the workflow; choose another name"),
    "experiments.plan": ({}, "experiments: 'plan' is a target of the workflow; choose another name"),
    "experiments.so_far_x": ({}, "experiments: 'so_far_x' is a target of the workflow; choose another name"),
    "experiments.all": ({}, "experiments: 'all' is a target of the workflow; choose another name"),
    "experiments.Bad": ({}, "experiments.Bad: string should match pattern"),
    "experiments.main.figures": (["training_curve"], "experiments.main.figures: unknown 'training_curve'; did you"),
    "experiments.main.tasks": (["gsm8k"], "models.smoke.pretraining.gsm8k: missing; experiments.main.tasks has gsm8k"),
    "experiments.methods.tasks": ([], "experiments.methods.tasks: list should have at least 1 item"),
    "experiments.main.methods": (["base", "base"], "experiments.main.methods: 'base' appears twice; remove one"),
    "experiments.main.grid": ({"baseline": []}, "experiments.main.grid.baseline: list should have at least 1 item"),
    "experiments.methods.grid": (
        {"lora_rank": [8]},
        "methods.d1.lora_rank: 8 cannot continue training an adapter of sft",
    ),
    "evaluations.papers.samplers": (["top1", "top1"], "evaluations.papers.samplers: 'top1' appears twice"),
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
    "scales.smoke.models": ({}, "scales.smoke.models.dream: missing; experiments.dream.model asks for it"),
    "scales.smoke.models.dream": ("smoke-dreem", "scales.smoke.models: unknown 'smoke-dreem'; did you mean 'smoke-d"),
    "experiments.dream.model": ("draem", "scales.smoke.models.draem: missing; experiments.dream.model asks for it"),
    "experiments.kl_per_step.transfer": (True, "experiments.kl_per_step: transfer needs an evaluation"),
    "methods.diffpo.learn": (
        "joint",
        "methods.diffpo.learn, or a grid's: joint trains a threshold, and the sampler top2",
    ),
    "tasks.sudoku.min_blanks": (12, "tasks.sudoku.min_blanks: 12 is more than max_blanks 11"),
}


@pytest.mark.parametrize("path", WRONG)
def test_a_wrong_value_is_said_with_its_place(config, path):
    value, line = WRONG[path]
    put(config, path, value)
    assert any(found.startswith(line) for found in lines(config)), lines(config)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (
            "scales.laptop.experiment_changes.main",
            {"methods": []},
            "scales.laptop.experiment_changes.main.methods: list should have at least 1",
        ),
        ("scales.laptop.seeds", [0, 0], "scales.laptop.seeds: 0 appears twice; remove one"),
        ("scales.laptop.training.alhpa", 1, "scales.laptop.training: unknown 'alhpa'"),
        ("scales.laptop", None, "scales.laptop: input should be a valid dictionary, not None"),
    ],
)
def test_a_mistake_in_another_scale_stops_only_that_one(config, path, value, line):
    put(config, path, value)
    grid = expand(config)
    assert grid.runs
    assert any(said.startswith(line) for said in grid.warnings), grid.warnings
    assert any(said.startswith(line) for said in lines(config | {"scale": "laptop"}))
    config["training"]["alhpa"] = 1  # with a mistake that counts, all are said
    assert any(said.startswith(line) for said in lines(config))
    assert any(said.startswith("training: unknown 'alhpa'") for said in lines(config))


def test_a_block_that_is_no_mapping_is_one_mistake(config):
    assert lines(config | {"training": None}) == ["training: input should be a valid dictionary, not None"]


@pytest.mark.parametrize("whole", [None, [], "text", 3])
def test_a_whole_that_is_no_mapping_is_one_mistake(whole):
    assert lines(whole) == [f"config.yaml: input should be a valid dictionary, not {whole!r}"]


def test_exact_likelihoods_need_plain_passes(config):
    config["methods"]["dmpo"]["likelihood"] = "trajectory"
    assert expand(config).runs
    config["scales"]["smoke"]["training"]["sampler"] = "top2_prefix"
    assert lines(config) == [
        "methods.dmpo.likelihood, or a grid's: trajectory scores plain passes, and the sampler top2_prefix has cache; "
        "choose a sampler without, or elbo"
    ]
    config["methods"]["dmpo"]["loss_kind"] = "reward_only"  # which scores nothing
    config["experiments"] = {"main": config["experiments"]["main"]}
    for scale in config["scales"].values():
        scale["experiment_changes"] = {}
    assert expand(config).runs


@pytest.mark.parametrize("values", [["../x y;$(rm)"], ["q_proj", "q_proj"], ["lm_head"], []])
def test_adapters_are_of_known_projections(config, values):
    config["experiments"]["main"]["grid"] = {"lora_targets": [values]}
    assert all(line.startswith("experiments.main.grid.lora_targets") for line in lines(config))


def test_grid_values_that_are_equal_are_refused(config):
    config["experiments"]["main"]["grid"] = {"clip": [1, 1.0]}
    assert lines(config) == ["experiments.main.grid.clip: 1.0 appears twice; remove one"]


def test_values_with_one_name_in_paths_are_refused(config, monkeypatch):
    monkeypatch.setattr("unmask.config.grid.runs._text", lambda value: "same")
    config["experiments"]["main"]["grid"] = {"clip": [0.1, 0.2]}
    config["experiments"] = {"main": config["experiments"]["main"]}
    for scale in config["scales"].values():
        scale["experiment_changes"] = {}
    (line,) = lines(config)
    assert line.endswith("two values have the same name in paths: diffu_grpo, clip~same")


def with_long_names(config, letters):
    """One experiment of one variant with many settings in its name, the longest a sampler's name of so many letters."""
    config = copy.deepcopy(config)
    name = "s" * letters
    config["samplers"][name] = config["samplers"]["top1"]
    grid = {"sampler": [name], "baseline": ["individual"], "baseline_strength": [0.75], "masks": ["uniform"]}
    grid |= {"lora_targets": [["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]], "coefficient": [0.125]}
    grid |= {"elbo_copies": [16], "max_grad_norm": [0.125]}
    config["experiments"] = {"main": config["experiments"]["main"] | {"methods": ["dmpo"], "grid": grid}}
    for scale in config["scales"].values():
        scale |= {"experiment_changes": {}, "experiments": ["main"]}
    return config


def test_a_name_that_no_folder_can_have_is_refused(config, tmp_path):
    """The longest is that of an evaluation of the task with the longest name, in the folder of SLURM's logs."""

    def longest(letters):
        runs = expand(with_long_names(config, letters)).runs
        return f"smoke_{max(runs, key=len).replace('/', '_')}_papers"

    most = 30 + 255 - len(longest(30))
    (tmp_path / longest(most)).mkdir()
    with pytest.raises(OSError, match="too long"):
        (tmp_path / f"{longest(most)}1").mkdir()
    (line,) = lines(with_long_names(config, most + 1))
    assert line.startswith("experiments.main.grid, or the scale's: a run of dmpo on countdown has a name of 256 bytes")
    assert line.endswith(f"or shorten the longest part, sampler~{'s' * (most + 1)}")


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


@pytest.mark.parametrize(
    ("scale", "dtype", "said"),
    [
        ("smoke", "bfloat16", "bfloat16"),
        ("llada-8b", "bfloat16", "bfloat16"),
        ("llada-8b", "auto", "auto is bfloat16 on a GPU, which"),
        ("llada-8b", "float32", None),
        ("smoke", "auto", None),  # without a GPU that the configuration knows of, auto is float32
    ],
)
def test_all_weights_are_trained_in_float32_only(config, scale, dtype, said):
    config["scale"] = scale
    config["scales"][scale]["methods"] = {"dmpo": {"lora_rank": 0, "dtype": dtype}}
    config["experiments"] = {"main": config["experiments"]["main"] | {"methods": ["dmpo"]}}
    config["scales"][scale]["experiment_changes"] = {}
    if said is None:
        assert expand(config).runs
        return
    how = "rounds away small updates of all weights (lora_rank 0); set it to float32"
    assert lines(config) == [f"methods.dmpo.dtype: {said} {how}"]
