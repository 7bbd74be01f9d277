"""Tuning in the configuration: candidates become runs of their own seeds, and unequal searches are refused."""

import copy

import pytest

from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.planning.readiness import unfair
from unmask.planning.targets import asked, tuned_by

CANDIDATES = {
    "diffu_grpo": {"settings": [{"learning_rate": 1e-3}, {"learning_rate": 3e-4}]},
    "dmpo": {
        "tasks": ["sudoku"],
        "settings": [{"learning_rate": 1e-3, "ess_target": 0.4}, {"learning_rate": 3e-4, "ess_target": 0.2}],
    },
}


@pytest.fixture
def tuned(config):
    """A configuration that tunes two methods at the smoke scale."""
    config["scales"]["smoke"]["tuning"] = {"seeds": [1000, 1001], "candidates": copy.deepcopy(CANDIDATES)}
    return config


def test_each_candidate_has_a_run_per_seed_with_its_settings(tuned):
    grid = expand(tuned)
    tasks = tuned["scales"]["smoke"]["tasks"]
    assert list(grid.tuning) == [*(f"diffu_grpo/{task}" for task in tasks), "dmpo/sudoku"]
    first, second = grid.tuning["dmpo/sudoku"]
    assert first.runs == [f"dmpo/sudoku/ess_target~0.4+learning_rate~0.001/seed-{seed}" for seed in (1000, 1001)]
    assert second.settings == {"learning_rate": 3e-4, "ess_target": 0.2}
    run = grid.runs[second.runs[1]]
    assert (run.seed, run.training.learning_rate, run.method_settings["ess_target"]) == (1001, 3e-4, 0.2)


def test_adopting_a_choice_repeats_no_candidate(tuned):
    """Paths and specs stay the same when a candidate becomes the default."""
    before = expand(tuned)
    tuned["methods"]["dmpo"].setdefault("by_task", {})["sudoku"] = {"learning_rate": 3e-4, "ess_target": 0.2}
    after = expand(tuned)
    runs = [run for candidate in before.tuning["dmpo/sudoku"] for run in candidate.runs]
    assert [after.runs[run].digest for run in runs] == [before.runs[run].digest for run in runs]
    assert after.runs["dmpo/sudoku/default/seed-0"].digest != before.runs["dmpo/sudoku/default/seed-0"].digest
    assert after.tuning_digest("dmpo/sudoku") == before.tuning_digest("dmpo/sudoku")


def test_other_specs_do_not_change_with_a_tuning(config, tuned):
    plain = expand(config | {"scales": config["scales"] | {"smoke": _without(tuned["scales"]["smoke"])}})
    grid = expand(tuned)
    assert plain.tuning == {}
    assert {name: grid.runs[name].digest for name in plain.runs} == {n: one.digest for n, one in plain.runs.items()}


def test_a_sweep_of_its_own_is_a_target_and_leaves_the_others_as_they_are(tuned):
    """`tune` names the same runs with the same digests, and METHOD/TASK of the new sweep are found by its name."""
    before = expand(tuned)
    more = {"espo": {"tasks": ["sudoku"], "settings": [{"learning_rate": 1e-3}, {"learning_rate": 3e-4}]}}
    tuned["scales"]["smoke"]["tuning"]["sweeps"] = {"field": more}
    grid = expand(tuned)
    assert tuned_by(grid, "tune") == list(before.tuning)
    assert tuned_by(grid, "tune_field") == ["espo/sudoku"]
    assert tuned_by(grid, "tune_other") == tuned_by(grid, "main") == []
    assert grid.tuning.keys() == before.tuning.keys() | {"espo/sudoku"}
    assert {name: grid.tuning_digest(name) for name in before.tuning} == {
        name: before.tuning_digest(name) for name in before.tuning
    }
    swept = asked(grid, ["tune_field"]).runs
    assert swept == {run for candidate in grid.tuning["espo/sudoku"] for run in candidate.runs}


def _without(scale):
    return {key: value for key, value in scale.items() if key != "tuning"}


WRONG = {
    "seed of a result": (lambda t: t.update(seeds=[0, 1000]), "tuning.seeds: [0] are seeds of results as well"),
    "unequal numbers": (
        lambda t: t["candidates"]["diffu_grpo"]["settings"].pop(),
        "methods have different numbers of candidates (diffu_grpo 1, dmpo 2)",
    ),
    "unequal keys": (
        lambda t: t["candidates"]["dmpo"]["settings"][0].pop("ess_target"),
        "tuning.candidates.dmpo: candidates set different keys",
    ),
    "equal candidates": (
        lambda t: t["candidates"]["diffu_grpo"]["settings"][0].update(learning_rate=3e-4),
        "two candidates are equal; change one",
    ),
    "unknown method": (
        lambda t: t["candidates"].update(dmpp=t["candidates"].pop("dmpo")),
        "tuning.candidates: unknown 'dmpp'; did you mean 'dmpo'?",
    ),
    "unknown setting": (
        lambda t: [one.update(learning_rat=1) for one in t["candidates"]["diffu_grpo"]["settings"]],
        "tuning.candidates.diffu_grpo.settings: unknown 'learning_rat'; did you mean 'learning_rate'?",
    ),
    "unknown task": (
        lambda t: t["candidates"]["dmpo"].update(tasks=["sudoko"]),
        "tuning.candidates.dmpo.tasks: unknown 'sudoko'; did you mean 'sudoku'?",
    ),
    "unknown method in a sweep": (
        lambda t: t.update(sweeps={"field": {"espp": t["candidates"]["dmpo"]}}),
        "tuning.sweeps.field: unknown 'espp'; did you mean 'espo'?",
    ),
    "unknown setting in a sweep": (
        lambda t: t.update(sweeps={"field": {"espo": {"settings": [{"ratioo": 1}, {"ratioo": 2}]}}}),
        "tuning.sweeps.field.espo.settings: unknown 'ratioo'; did you mean 'ratio'?",
    ),
    "unequal numbers in a sweep": (
        lambda t: t.update(sweeps={"field": {"espo": {"settings": [{"learning_rate": 1e-3}]}}}),
        "methods have different numbers of candidates (diffu_grpo 2, dmpo 2, sweeps.field.espo 1)",
    ),
    "method and task twice": (
        lambda t: t.update(sweeps={"field": {"dmpo": t["candidates"]["dmpo"]}}),
        "tuning.sweeps.field.dmpo: another sweep tunes dmpo on sudoku; remove the task from one of them",
    ),
    "base model": (
        lambda t: t["candidates"].update(base={"settings": [{"dtype": "float32"}, {"dtype": "auto"}]}),
        "tuning.candidates.base: the base model has no settings to choose",
    ),
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"group_size": 8}, "tuning: budgets of responses differ (diffu_grpo/sudoku candidate 1 16, "),
        ({"validate_every": 0}, "tuning.candidates.dmpo: candidates are compared on validation problems, and "),
    ],
)
def test_an_unfair_budget_stops_the_search_but_nothing_else(tuned, change, said):
    assert unfair(expand(tuned)) == []
    for settings in tuned["scales"]["smoke"]["tuning"]["candidates"]["dmpo"]["settings"]:
        settings.update(change)
    (line,) = unfair(expand(tuned))
    assert said in line


def test_every_candidate_has_the_same_budget(tuned):
    settings = tuned["scales"]["smoke"]["tuning"]["candidates"]["dmpo"]["settings"]
    settings[0]["group_size"], settings[1]["group_size"] = 4, 8
    (line,) = unfair(expand(tuned))
    assert "dmpo/sudoku candidate 1 16, dmpo/sudoku candidate 2 32" in line


@pytest.mark.parametrize("mistake", WRONG)
def test_a_search_that_is_unfair_or_wrong_is_refused(tuned, mistake):
    change, said = WRONG[mistake]
    change(tuned["scales"]["smoke"]["tuning"])
    with pytest.raises(ConfigError) as caught:
        expand(tuned)
    assert said in "\n".join(caught.value.lines)
