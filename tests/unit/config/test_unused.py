"""Settings that can have no effect are refused, and no others; the declared conditions agree with the losses."""

from dataclasses import replace

import pytest
import torch

from helpers.configs import lines, put
from helpers.every_method import DIFFPO, DMPO, LOSSES, SEEDS
from unmask.config.grid.expand import expand
from unmask.config.schema.introspection import declared_names, method_class, settings_of
from unmask.config.schema.training import USED_IF, Training
from unmask.config.validation.conditions import names_in
from unmask.models.policy import Policy
from unmask.models.tabular import TabularModel
from unmask.training.tabular import sample

ALPHA_0 = "alpha == 0 and loss_kind != 'reward_only'"
UNUSED = {  # path: (value, the end of the path in the line, what the line says the setting needs)
    "methods.diffu_grpo.merge_start": (True, "", "the method has a start_from"),
    "methods.dmpo.reference_mix": (0.5, "", "reference_sync > 0"),
    "methods.dmpo.sampler_learning_rate": (0.1, "", "the method trains the head of a sampler with rule: adaptive"),
    "methods.dmpo_sft.wddo_beta": (2.0, "", "loss_kind == 'wddo'"),
    "methods.dmpo.eta": (2.0, "", ALPHA_0),
    "scales.smoke.methods.dmpo.eta": (2.0, "", ALPHA_0),
    "scales.smoke.methods.dmpo.by_task": ({"countdown": {"eta": 2.0}}, ".countdown.eta", ALPHA_0),
    "scales.smoke.methods.dmpo_sft": ({"wddo_beta": 2.0}, ".wddo_beta", "loss_kind == 'wddo'"),
    "scales.laptop.methods.diffpo.rollout_dropout": (True, "", "lora_rank > 0 and lora_dropout > 0"),
    "scales.llada-8b.methods.sft.max_prompt_length": (99, "", "the method learns no corpus"),
    "experiments.main.grid": ({"eta": [1.0, 2.0]}, ".eta", ALPHA_0),
    "scales.smoke.experiment_changes.alpha": ({"grid": {"alpha": [0.1], "eta": [1.0]}}, ".grid.eta", ALPHA_0),
    "experiments.main.equal_updates": (True, "", "the grid has updates_per_buffer"),
    "experiments.methods.transfer": (True, "", "the experiment has several tasks"),
    "samplers.threshold_90.top_p": (0.9, "", "temperature > 0"),
    "samplers.top4.draw_dtype": ("bfloat16", "", "temperature > 0"),
}
NEVER = {
    "methods.sft.reference_sync": (3, "", "the method does not use it; remove it"),
    "scales.smoke.methods.sft.temperature": (0.5, "", "the method does not use it; remove it"),
    "scales.llada-8b.methods.sft.by_task": (
        {"sudoku": {}},
        ".sudoku",
        "sft learns s1k in place of the tasks; remove it",
    ),
}


def at_scale_of(config, path):
    kind, name, *_ = path.split(".")
    return config | {"scale": name} if kind == "scales" else config


@pytest.mark.parametrize("path", UNUSED)
def test_a_setting_without_effect_is_refused_with_what_it_needs(config, path):
    value, end, need = UNUSED[path]
    put(config, path, value)
    line = f"{path}{end}: has no effect: it is used only if {need}; remove it, or change that"
    assert lines(at_scale_of(config, path)) == [line]


@pytest.mark.parametrize("path", NEVER)
def test_a_setting_that_a_method_never_uses_is_refused(config, path):
    value, end, said = NEVER[path]
    put(config, path, value)
    assert lines(at_scale_of(config, path)) == [f"{path}{end}: has no effect: {said}"]


USED = {  # path: value; a scale, fidelity, task, grid or temperature uses it, or it switches something off
    "methods.d1.merge_start": True,
    "methods.diffu_grpo.merge_start": False,
    "methods.coupled_grpo.reference_mix": 0.5,  # `released` synchronises
    "methods.sft.max_prompt_length": 99,  # no corpus at the laptop scale
    "methods.dmpo.rollout_dropout": True,  # no dropout at the laptop scale alone
    "methods.diffpo.sampler_learning_rate": 0.1,  # in joint_sampler
    "methods.dmpo_sft.wddo_beta": 1.0,  # repeats the default
    "methods.dmpo.wddo_beta": 2.0,  # in the exact toy
    "scales.smoke.methods.diffpo": {"sigma": 0.25},  # in joint_sampler
    "scales.smoke.methods.dmpo.by_task": {"countdown": {"alpha": 0.0, "eta": 2.0}},
    "scales.smoke.methods.dmpo.baseline_strength": 0.5,  # in the grid of weight_baselines
    "scales.smoke.methods.sft.reference_sync": 0,
    "experiments.main.grid": {"alpha": [0.0, 0.1], "eta": [1.0, 2.0]},
    "samplers.top1.top_p": 0.9,  # diagnoses.surrogates draws
    "training.reference_mix": 0.5,  # shared by all methods
    "fidelities.corrected.methods": {"dmpo": {"eta": 2.0}},  # a preset
}


PRESETS = {  # changes that make a value of a preset idle: the presets may stay
    "methods.dmpo.loss_kind": "reward_only",
    "methods.dmpo.alpha": 0.0,
    "methods.coupled_grpo.kl_penalty": 0.0,
    "scales.smoke.methods.sft.lora_rank": 0,
    "scales.smoke.training.lora_dropout": 0.0,
}


@pytest.mark.parametrize("fidelity", ["corrected", "paper", "released"])
@pytest.mark.parametrize("path", PRESETS)
def test_a_change_makes_no_mistake_of_a_preset(config, path, fidelity):
    put(config, path, PRESETS[path])
    config["fidelity"] = fidelity
    config["experiments"] = {"main": config["experiments"]["main"]}
    for scale in config["scales"].values():
        scale["experiment_changes"] = {}
    assert expand(config).runs


def test_d1_may_lose_its_start_where_a_preset_merges_it(config):
    del config["methods"]["d1"]["start_from"]
    assert expand(config | {"fidelity": "released"}).runs


def test_a_setting_that_only_a_broken_scale_uses_is_no_mistake(config):
    config["scale"] = "laptop"
    put(config, "methods.dmpo.rollout_dropout", True)  # the laptop has no dropout
    for name in ("smoke", "one-gpu", "one-gpu-0.6b", "llada-8b"):
        config["scales"][name]["lenghts"] = [1]
    grid = expand(config)
    assert grid.runs
    assert all("lenghts" in line for line in grid.warnings)


@pytest.mark.parametrize("key", ["scales", "fidelities"])
def test_without_scales_or_fidelities_nothing_is_said_of_effects(config, key):
    assert not [line for line in lines(config | {key: None}) if "has no effect" in line]


@pytest.mark.parametrize("path", USED)
def test_what_may_have_an_effect_is_not_refused(config, path):
    put(config, path, USED[path])
    assert expand(config).runs


def test_conditions_are_about_settings_that_exist():
    others = {"start_from", "corpus", "rule", "trains_head"}
    assert USED_IF.keys() <= Training.model_fields.keys()
    for algorithm in declared_names("methods") - {"base"}:
        known = settings_of(algorithm).model_fields.keys()
        conditions = method_class(algorithm).used_if
        assert conditions.keys() <= known, algorithm
        for condition in (USED_IF | conditions).values():
            assert set(names_in(condition)) <= known | others, condition


# --- the conditions against the losses --------------------------------------------------------------------------------

OTHER = {
    "eta": 3.0, "coefficient": 0.5, "baseline_strength": 0.25, "wddo_beta": 2.0, "wddo_negative": 0.5, "elbo_copies": 8,
    "micro_steps": 4, "clamp": 0.5, "sigma": 0.25, "speed_reward": 3.0,
}  # fmt: skip
CASES = LOSSES | {
    "dmpo-alpha_0-model": replace(DMPO, alpha=0.0, baseline="model"),
    "dmpo-alpha_0-wddo-model": replace(DMPO, alpha=0.0, loss_kind="wddo", baseline="model"),
    "dmpo-reward_only-model": replace(DMPO, loss_kind="reward_only", baseline="model"),
    "diffpo-penalty": replace(DIFFPO, kl_penalty=0.5),
}


def conditions_of(method):
    return method.used_if


def acts(method, key):
    """Whether another value of a setting changes the gradient."""
    return not torch.equal(gradient(method), gradient(replace(method, **{key: OTHER[key]})))


def gradient(method, reference=0.0):
    """The gradient of the last of four updates, on a policy that has moved since it sampled and from its reference."""
    model, noise = TabularModel(3, 3, 0.5, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    policy = Policy(model, tokenizer=None)
    policy.set_reference()
    policy.snapshot = {name: value + reference for name, value in policy.snapshot.items()}
    model.table.data += torch.randn(model.table.shape, generator=noise)
    rollouts = sample(model, torch.rand(27, generator=noise), 2, 4, SEEDS)
    buffer_data = method.prepare(policy, rollouts, 4, SEEDS)
    model.table.data += 0.3 * torch.randn(model.table.shape, generator=noise)
    update_data = method.refresh(policy, rollouts, buffer_data, 3, SEEDS)
    method.loss(policy, rollouts, buffer_data, update_data)[0].sum().backward()
    return model.table.grad


@pytest.mark.parametrize("name", CASES)
def test_a_setting_acts_only_where_its_condition_holds(name):
    conditions = conditions_of(CASES[name])
    for key in OTHER.keys() & conditions.keys():
        assert eval(conditions[key], {}, vars(CASES[name])) or not acts(CASES[name], key), key


def test_every_setting_acts_in_one_of_the_cases():
    found = {k for method in CASES.values() for k in OTHER.keys() & conditions_of(method).keys() if acts(method, k)}
    assert found == OTHER.keys() - {"sigma", "speed_reward"}  # of an adaptive sampler, which the table has not


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_in_the_loss_where_it_may_be_synchronised(name):
    torch.manual_seed(0)
    moved = torch.randn(TabularModel(3, 3, 0.5, torch.Generator()).table.shape)
    is_in_it = not torch.equal(gradient(CASES[name]), gradient(CASES[name], moved))
    assert is_in_it == eval(conditions_of(CASES[name])["reference_sync"], {}, vars(CASES[name]))
