"""The grid that config.yaml expands to: runs and what they share, models, evaluations, and their specs."""

import copy
import json

import pytest

from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.specs import ModelSpec, RunSpec


@pytest.mark.parametrize("scale", ["laptop", "smoke", "one-gpu", "one-gpu-0.6b", "llada-8b"])
def test_every_scale_expands(config, scale):
    config["scale"] = scale
    grid = expand(config)
    assert grid.runs
    assert set(grid.wanted) <= set(grid.experiments)


# Experiment -> figure, runs at laptop scale, models at laptop scale and at the papers'.
NAMED = {
    "dream": ("accuracy_by_length", 3 * 8, "tiny-dream", "dream-7b-instruct"),
    "joint_sampler": ("accuracy_by_nfe", 3 * 2 * 8, "tiny", "llada-8b-instruct"),
    "fixed_vs_adaptive": ("accuracy_by_nfe", 2 * 8, "tiny", "llada-8b-instruct"),
    "joint_threshold": ("accuracy_by_nfe", 2 * 40, "tiny", "llada-8b-instruct"),
    "threshold_transfer": ("threshold_by_difficulty", 2 * (1 + 5), "tiny-shared", "llada-8b-instruct"),
    "weight_distribution": ("weight_distribution", 4 * 8, "tiny", "llada-8b-instruct"),
    "batch_size": ("accuracy_by_setting", 1 + 2 * 5, "tiny", "llada-8b-instruct"),
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
    adaptive = config["samplers"]["adaptive"]
    config["scales"]["laptop"]["samplers"] = {"adaptive": adaptive | {"gamma": 0.5}}
    for scale, gamma in (("laptop", 0.5), ("smoke", adaptive["gamma"])):
        grid = expand(config | {"scale": scale})
        assert grid.runs["diffpo/countdown/sampler~adaptive/seed-0"].sampler.gamma == gamma
        assert grid.evaluations["adaptive"].samplers["adaptive"].gamma == gamma


def test_learned_and_fixed_threshold_start_equal(config):
    """At every scale: what a learned threshold is compared with is what it was before it learned."""
    for scale in config["scales"]:
        samplers = expand(config | {"scale": scale}).evaluations["fixed_vs_adaptive"].samplers
        assert samplers["adaptive"].gamma == samplers["entropy_003"].gamma
        assert samplers["adaptive"].proxy == samplers["entropy_003"].proxy


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
    first_seeds = {run for run in runs["joint_threshold"] if int(run.rpartition("-")[2]) < 8}
    assert first_seeds < runs["joint_sampler"]
    assert runs["weight_distribution"] < runs["weight_baselines"]
    assert runs["batch_size"] & runs["main"] == {
        "base/sudoku/default/seed-0",
        *(f"dmpo/sudoku/default/seed-{seed}" for seed in range(5)),
    }


def test_only_the_weights_of_the_loss_differ_between_the_two_arms_of_dmpo(config):
    """What is compared in `diversity` and `distribution_matching` is the premise of DMPO, and nothing else."""
    grid = expand(config | {"scale": "laptop"})
    for experiment in ("diversity", "distribution_matching"):
        arms = [run for run in grid.experiments[experiment].runs if run.startswith("dmpo/") and run.endswith("/seed-0")]
        other = [grid.runs[run] for run in arms if "loss_kind~reward_only" in run]
        assert len(arms) == 2 * len(other) > 0
        for run in other:
            default = grid.runs[run.name.replace("loss_kind~reward_only", "default")]
            assert default.method_settings | {"loss_kind": "reward_only"} == run.method_settings
            assert default.training == run.training


def test_another_model_stands_in_the_address_of_its_runs_and_of_those_they_start_from(config):
    grid = expand(config | {"scale": "laptop"})
    run = grid.runs["d1/sudoku/model~tiny-dream/seed-0"]
    assert (run.variant, run.model) == ("default", "tiny-dream/sudoku/seed-0")
    assert run.start_from == "sft/sudoku/model~tiny-dream/seed-0"
    assert grid.models[run.model].settings.family == "dream"
    assert "family" not in grid.models["tiny/sudoku/seed-0"].values()["settings"]


def test_a_shared_model_is_made_once_a_seed_of_the_data_of_all_its_tasks(config):
    grid = expand(config)
    assert {run.model for name, run in grid.runs.items() if "smoke-shared" in name} == {
        "smoke-shared/seed-0", "smoke-shared/seed-1"
    }  # fmt: skip
    spec = grid.models["smoke-shared/seed-0"]
    assert list(spec.tasks) == sorted(config["models"]["smoke-shared"]["pretraining"])
    assert spec.tasks.keys() == spec.settings.pretraining.keys()
    assert set(spec.tasks) >= {"chain", "countdown", "simplify", "sudoku"}
    assert list(ModelSpec.of(json.loads(spec.to_json())).tasks) == list(spec.tasks)
    chain = [f"results/smoke/data/chain/{split}.parquet" for split in ("train", "validation")]
    assert set(grid.model_data(spec.name)) >= set(chain)
    assert len(grid.model_data(spec.name)) == 2 * len(spec.tasks)
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
    seen = run.for_evaluation(evaluation)
    assert (seen.task, seen.variant) == ("countdown", "learn~sampler+sampler~adaptive+trained_on~sudoku")
    posed = {key: value for key, value in grid.datasets["countdown"].settings.items() if key != "prompt_file"}
    assert seen.task_settings == posed
    assert grid.evaluation_task(run.name, "adaptive-on-countdown") == "countdown"
    assert run.for_evaluation(grid.evaluations["adaptive"]) is run


def test_four_tasks_has_the_papers_columns_and_shares_the_runs_of_main(config):
    grid = expand(config | {"scale": "laptop"})
    main, four = (set(grid.experiments[name].runs) for name in ("main", "four_tasks"))
    assert {run for run in main if grid.runs[run].seed < 3} < four
    assert {run.split("/")[1] for run in four - main} == {"chain", "simplify"}
    assert "four_tasks" not in grid.wanted + grid.everything
    apart = {name for name, one in config["experiments"].items() if one.get("apart")}
    apart.add("joint_threshold")  # at the laptop scale, for its forty seeds
    assert apart >= {"four_tasks", "llada_1_5", "other_bases"}
    assert set(grid.everything) == set(grid.experiments) - apart
    config["scales"]["laptop"]["experiments"] = ["four_tasks"]
    assert set(expand(config | {"scale": "laptop"}).everything) == set(grid.experiments) - (apart - {"four_tasks"})
    assert set(grid.datasets) >= {"sudoku", "countdown", "chain", "simplify"}
    assert len(four) == 4 * (1 + 2 * 3)


def test_a_scale_may_set_an_experiment_apart(config):
    """Or take one in that is apart elsewhere."""
    changes = config["scales"]["laptop"]["experiment_changes"]
    changes |= {"likelihood": {"apart": True}, "alpha": changes["alpha"] | {"apart": False}}
    at_laptop, at_smoke = (expand(config | {"scale": scale}).everything for scale in ("laptop", "smoke"))
    assert ("likelihood" in at_laptop, "alpha" in at_laptop) == (False, True)
    assert ("likelihood" in at_smoke, "alpha" in at_smoke) == (True, False)


def test_exponent_without_point_is_a_number(config):
    config["training"]["learning_rate"] = "3e-6"  # what YAML 1.1 reads in 3e-6
    assert expand(config).runs


def test_one_setting_changes_the_specs_that_have_it_and_no_others(config):
    before = {name: run.digest for name, run in expand(config).runs.items()}
    changed = copy.deepcopy(config)
    changed["methods"]["dmpo"]["wddo_beta"] = 2.0
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
    wanted = default.buffers * default.updates_per_buffer
    assert {t.updates_per_buffer for t in runs} == ({1, 4, 24} if scale == "laptop" else {1, 4, 8, 24})
    assert all(0 <= t.buffers * t.updates_per_buffer - wanted < t.updates_per_buffer for t in runs)


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
    assert RunSpec.read(tmp_path / "spec.yaml") == run


def test_a_spec_with_an_unknown_key_is_named(tmp_path):
    (tmp_path / "spec.yaml").write_text("nmae: x\n")
    with pytest.raises(ValueError, match=r"spec\.yaml: not a RunSpec: .*nmae"):
        RunSpec.read(tmp_path / "spec.yaml")


def test_numbers_as_names_are_names(config):
    config["scales"][9] = config["scales"]["smoke"]
    assert expand(config | {"scale": "9"}).scale == "9"


def test_a_grid_over_training_leaves_the_base_model_alone(config):
    config["experiments"]["main"]["grid"] = {"lora_targets": [["q_proj", "v_proj"], ["o_proj"]]}
    runs = expand(config).experiments["main"].runs
    assert [run for run in runs if run.startswith("base/sudoku")] == [f"base/sudoku/default/seed-{s}" for s in (0, 1)]
    assert "dmpo/sudoku/lora_targets~q_proj-v_proj/seed-0" in runs


def test_a_curve_runs_the_algorithm_of_its_method(config):
    config["exact_toy"]["curves"]["d1"] = {"method": "d1"}
    assert expand(config).exact_toy.curves["d1"].method == "diffu_grpo"


def test_llada_1_5_has_runs_of_its_own_and_at_smaller_scales_those_of_main(config):
    papers = expand(config | {"scale": "llada-8b"})
    runs = papers.experiments["llada_1_5"].runs
    assert {papers.runs[run].model for run in runs} == {"llada-1.5"}
    assert all("model~llada-1.5" in run for run in runs)
    assert not set(runs) & set(papers.experiments["main"].runs)
    assert "base/sudoku/model~llada-1.5/seed-0" in runs
    assert "base/sudoku/model~llada-1.5/seed-1" not in runs  # greedy: every seed gives the same samples
    laptop = expand(config | {"scale": "laptop"})
    assert set(laptop.experiments["llada_1_5"].runs) < set(laptop.experiments["main"].runs)


def test_a_base_model_of_all_seeds_is_evaluated_once_unless_its_samples_are_drawn(config):
    papers = expand(config | {"scale": "llada-8b"})
    seeds = {
        name: {run[-6:] for run in papers.experiments[name].runs if run.startswith("base/")}
        for name in ("main", "dream")
    }
    assert seeds == {"main": {"seed-0"}, "dream": {"seed-0", "seed-1", "seed-2"}}
    config["samplers"]["top1"] = {"rule": "random_order"}
    runs = expand(config | {"scale": "llada-8b"}).experiments["main"].runs
    assert len([run for run in runs if run.startswith("base/sudoku/")]) == 3
    # The laptop's model is trained from scratch, but once for all seeds; the smoke scale's once for each.
    config["samplers"]["top1"] = {"rule": "top_k", "tokens_per_step": 1, "score": "confidence"}
    for scale, runs in (("laptop", 1), ("smoke", 2)):
        bases = [
            run for run in expand(config | {"scale": scale}).experiments["main"].runs if run.startswith("base/sudoku/")
        ]
        assert len(bases) == runs


def test_a_model_with_a_seed_serves_the_runs_of_all_seeds_and_its_weights_do_not_depend_on_that(config):
    config["models"]["smoke"]["seed"] = 1
    grid = expand(config)
    runs = [grid.runs[f"dmpo/sudoku/default/seed-{seed}"] for seed in (0, 1)]
    assert {run.model for run in runs} == {"smoke/sudoku/seed-1"}
    del config["models"]["smoke"]["seed"]
    assert expand(config).models["smoke/sudoku/seed-1"].digest == grid.models["smoke/sudoku/seed-1"].digest


def test_an_experiment_may_repeat_its_runs_on_several_base_models(config):
    grid = expand(config | {"scale": "laptop"})
    runs = [grid.runs[name] for name in grid.experiments["other_bases"].runs]
    assert {run.model for run in runs} == {
        f"tiny-{seed}/{task}/seed-{seed}" for seed in (1, 2) for task in ("sudoku", "countdown")
    }
    assert len(runs) == 2 * 2 * (1 + 2 * 4)
    assert "dmpo/sudoku/model~tiny-1/seed-3" in grid.runs


def test_settings_of_training_change_no_base_run(config):
    before = expand(config)
    changed = copy.deepcopy(config)
    changed["training"] |= {"learning_rate": 7e-6, "lora_rank": 64, "validate_every": 3, "generation_length": 128}
    after = expand(changed)
    bases = [name for name in before.runs if name.startswith("base/")]
    assert bases
    assert all(before.runs[name] == after.runs[name] for name in bases)
    assert set(before.runs[bases[0]].training.values()) == {"dtype", "quantisation"}
    changed["scales"]["smoke"]["training"]["dtype"] = "bfloat16"
    assert all(before.runs[name] != expand(changed).runs[name] for name in bases[:1])


def test_another_fidelity_has_a_folder_of_its_own(config):
    assert expand(config).samples("main")[0].startswith("results/smoke/runs/")
    paper = expand(config | {"fidelity": "paper"})
    assert paper.samples("main")[0].startswith("results/smoke-paper/runs/")


def test_another_revision_of_the_model_changes_its_runs(config):
    before = expand(config | {"scale": "llada-8b"})
    config["models"]["llada-8b-instruct"]["revision"] = "0" * 40
    after = expand(config | {"scale": "llada-8b"})
    changed = {name for name in before.runs if before.runs[name] != after.runs[name]}
    assert changed == {name for name, run in before.runs.items() if run.model == "llada-8b-instruct"}
    assert changed


def test_a_grid_may_vary_the_reward_of_a_task(config):
    """Only runs that are trained have the axis; the data and the test problems are the same."""
    grid = expand(config | {"scale": "laptop"})
    runs = grid.experiments["partial_credit"].runs
    own, other = (grid.runs[f"dmpo/countdown/{name}/seed-0"] for name in ("default", "rewards~exact"))
    assert {own.name, other.name, "base/countdown/default/seed-0"} <= set(runs)
    assert own.name in grid.experiments["main"].runs
    assert (own.task_settings["rewards"], other.task_settings["rewards"]) == ("corrected", "exact")
    assert own.method_settings == other.method_settings
    assert own.training == other.training
    assert own.model == other.model
    assert own.digest != other.digest
    assert all("rewards" not in data.settings for data in (grid.datasets["countdown"], grid.tests["countdown"]))


def test_a_reward_that_no_task_has_is_a_mistake(config):
    config["experiments"]["partial_credit"]["grid"] = {"rewards": ["corrected", "exacts"]}
    with pytest.raises(ConfigError, match=r"experiments\.partial_credit\.grid\.rewards"):
        expand(config)
