"""SFT on a corpus: one run a seed for all tasks, what is refused, and what it costs."""

import dataclasses
import importlib
import json

import pytest

from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.models.shapes import LLADA_8B, flops_per_token
from unmask.planning.flops import training_flops
from unmask.planning.memory import training_memory
from unmask.training.optimizer import schedule


@pytest.fixture
def papers(config):
    """config.yaml at the papers' scale."""
    return config | {"scale": "llada-8b"}


def test_one_run_a_seed_is_what_all_tasks_start_from(papers):
    grid = expand(papers)
    tasks = papers["scales"]["llada-8b"]["tasks"]
    run = grid.runs["sft/s1k/default/seed-1"]
    assert [name for name in grid.experiments["main"].runs if name.startswith("sft/")] == [
        f"sft/s1k/default/seed-{seed}" for seed in (0, 1, 2)
    ]
    assert {grid.runs[f"d1/{task}/default/seed-1"].start_from for task in tasks} == {run.name}
    assert grid.runs["d1/sudoku/model~dream-7b-instruct/seed-1"].start_from == "sft/s1k/model~dream-7b-instruct/seed-1"
    assert grid.datasets["s1k"].settings == run.task_settings
    assert grid.validation(run.name) == []  # the last policy is kept
    files = [path for path in grid.samples("main") if "/sft/s1k/default/seed-1/" in path]
    root = "results/llada-8b/runs/sft/s1k/default/seed-1"
    assert files == [f"{root}/samples-papers-on-{task}.parquet" for task in tasks]
    assert f"{root}/adapter" in grid.targets("main")
    assert f"{root}/metrics.csv" in grid.metrics("main")
    assert [grid.evaluation_task(run.name, f"papers-on-{task}") for task in tasks] == tasks


def test_its_answers_are_those_of_sft_on_each_task(papers):
    grid = expand(papers)
    run = grid.runs["sft/s1k/default/seed-0"]
    seen = run.for_evaluation(grid.evaluations["papers-on-gsm8k"])
    assert (seen.method, seen.task, seen.variant) == ("sft", "gsm8k", "default")
    other = grid.runs["dmpo/sudoku/default/seed-0"].for_evaluation(grid.evaluations["papers-on-gsm8k"])
    assert other.variant == "trained_on~sudoku"


def test_plan_counts_its_evaluations_once(papers):
    from show_plan import evaluations_of

    found = evaluations_of(expand(papers), ["main", "methods", "from_sft"])
    tasks = papers["scales"]["llada-8b"]["tasks"]
    assert found["sft/s1k/default/seed-0"] == [f"papers-on-{task}" for task in tasks]
    assert found["d1/gsm8k/default/seed-0"] == ["papers"]


def lines(config):
    with pytest.raises(ConfigError) as caught:
        expand(config)
    return caught.value.lines


def test_what_cannot_learn_a_corpus_is_said(papers):
    sft = papers["scales"]["llada-8b"]["methods"]["sft"]
    papers["scales"]["llada-8b"]["tasks"] = ["gsm8k", "s1k"]
    papers["methods"]["dmpo"]["corpus"] = "s1k"
    sft["corpus"] = "s1"
    assert lines(papers) == [
        "methods.dmpo.corpus: dmpo samples its responses and learns no corpus; remove it",
        "scales.llada-8b.methods.sft.corpus: unknown 's1'; did you mean 's1k'?",
        "scales.llada-8b.tasks: s1k is a corpus, which has no test problems; name it as the `corpus` of a method",
    ]


def test_a_corpus_has_no_answers_to_check(papers):
    papers["scales"]["llada-8b"]["methods"]["sft"]["validate_every"] = 5
    assert lines(papers) == ["methods.sft.validate_every: s1k is a corpus and has no answers to check; set it to 0"]


def test_one_response_is_no_group(papers):
    papers["scales"]["llada-8b"]["methods"]["dmpo"] = {"group_size": 1}
    assert "methods.dmpo.group_size: 1 response has no others to be compared with; use 2 or more" in lines(papers)


def test_a_corpus_needs_a_model_for_all_tasks_and_no_diagnosis(config):
    config["scales"]["smoke"]["methods"]["sft"] = {"corpus": "s1k", "validate_every": 0}
    config["experiments"]["kl_per_step"]["methods"].append("sft")
    found = lines(config)
    assert any("models.smoke is trained per task; set shared: true there" in line for line in found)
    assert any(
        "has no task for experiments.kl_per_step.diagnosis; remove sft from its methods" in line for line in found
    )


def test_a_task_without_demonstrations_is_found_in_a_dry_run(config, monkeypatch):
    module = importlib.import_module("unmask.config.grid.consistency")
    monkeypatch.setattr(module, "defines", lambda kind, name, function: name != "countdown")
    config["scales"]["smoke"]["experiment_changes"] = {"methods": {"tasks": ["countdown"]}}
    (line,) = set(lines(config))
    assert line == (
        "tasks.countdown: sft learns from demonstrations, and this task has none; write `demonstration` in "
        "src/unmask/tasks/countdown.py, give methods.sft a corpus, or take countdown out of the tasks"
    )


def test_smaller_scales_learn_the_demonstrations_of_each_task(config):
    grid = expand(config)
    assert "sft/sudoku/default/seed-0" in grid.runs
    assert not [run for run in grid.runs.values() if run.corpus]
    assert "s1k" not in grid.datasets


def test_a_sequence_has_no_prompt_in_front(papers):
    """1,240 updates of 16 rows of 4,096 tokens, each one pass with gradient and one more for the activations."""
    grid = expand(papers)
    run = grid.runs["sft/s1k/default/seed-0"]
    assert grid.gpus(run.name) == 8  # two rows each
    tokens, adapter = 1240 * 16 * 4096, 335_544_320
    forward, backward = flops_per_token(LLADA_8B.body + adapter, adapter)
    assert training_flops(LLADA_8B, run, 200, checkpointing=True) == {
        "sampling": 0, "validating": 0, "scoring": 0,
        "updating": tokens * (forward + backward), "recomputing": tokens * forward,
    }  # fmt: skip
    by_hand = training_memory(LLADA_8B, run, grid.cost, 8, checkpointing=True)["gradient"]
    other = grid.cost.model_copy(update={"prompt_tokens": 999})
    assert by_hand == training_memory(LLADA_8B, run, other, 8, checkpointing=True)["gradient"]
    inputs = 32 * 4096 * 4096 * 2  # of each layer, in bfloat16
    assert by_hand["activations"] > inputs + 4 * 4096 * 4096
    assert sum(by_hand.values()) < 80e9


def test_the_linear_schedule_ends_at_zero(papers):
    """As the default of transformers' trainer: (n − i)/n of the rate at update i of n, from 0."""
    run = expand(papers).runs["sft/s1k/default/seed-0"]
    found = run.training
    assert [schedule(i, 4, found) for i in range(4)] == [1.0, 0.75, 0.5, 0.25]
    warm = found.model_copy(update={"warmup_ratio": 0.5})
    assert [schedule(i, 4, warm) for i in range(4)] == [0.5, 1.0, 1.0, 0.5]
    assert dataclasses.replace(run, corpus=False).digest != run.digest
    assert json.loads(run.to_json())["corpus"] is True
