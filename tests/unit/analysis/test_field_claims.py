"""field_claims.yaml at the laptop scale: every entry finds its policies, its metric and all seeds."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers.paths import ROOT
from unmask.analysis import claim_entries, claim_tables, claims, diversity
from unmask.analysis.scores import RUN
from unmask.config.grid.expand import expand
from unmask.config.loading import load_config

ENTRIES = claim_entries.read(ROOT / "workflow/resources/field_claims.yaml")
EXPERIMENTS = sorted({one.experiment for one in ENTRIES})
LENGTHS = (24, 32)  # of which `diversity` has the second


@pytest.fixture(scope="module")
def grid():
    return expand(load_config() | {"scale": "laptop"})


def planted(grid, experiment):
    """Random samples and training metrics of all runs of an experiment, with the columns of the real files."""
    rng = np.random.default_rng(0)
    evaluation = grid.evaluations[grid.experiments[experiment].evaluation_stem.removeprefix("samples-")]
    samples, metrics = [], []
    for name in grid.experiments[experiment].runs:
        run = grid.runs[name]
        labels = {"method": run.method, "task": run.task, "variant": run.variant, "seed": run.seed}
        # Claims on pairs of right answers need 20 problems.
        lengths, problems = (LENGTHS, 6) if evaluation.samples_per_problem == 1 else (LENGTHS[1:], 24)
        for sampler, length, example in itertools.product(evaluation.samplers, lengths, range(problems)):
            cell = {"sampler": sampler, "length": length, "example": example, "points": 1}
            for sample in range(evaluation.samples_per_problem):
                # A hard problem, which is not always solved in 16 samples, and others with many pairs of right ones.
                grade = int(rng.random() < (0.05 if example == 0 and evaluation.samples_per_problem > 1 else 0.5))
                cell |= {"sample": sample, "answer": "", "solution": str(rng.integers(3)), "strict": grade}
                samples.append(labels | cell | {"published": grade})
        updates = range(1, run.training.buffers * run.training.updates_per_buffer + 1) if run.trains else ()
        for step in updates:
            measured = {name: rng.random() for name in ("reward", "clamped", "partial_credit", "validation")}
            measured["flops"] = 1e9 * step
            inner = (step - 1) % run.training.updates_per_buffer + 1
            metrics.append(labels | {"step": step, "inner": inner, "alarm": int(rng.integers(60)) // 59} | measured)
    frame = pd.DataFrame(samples)
    if evaluation.samples_per_problem > 1:
        frame = diversity.with_pass_at_k(frame, RUN)
    return frame, pd.DataFrame(metrics)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_claim_is_tested_with_all_seeds(grid, experiment):
    samples, metrics = planted(grid, experiment)
    seeds = 10 if experiment.startswith("stability") else {"base_orders": 5}.get(experiment, 8)
    entries = [one for one in ENTRIES if one.experiment == experiment]
    assert entries
    for one in entries:
        found = claims.check(one, samples, metrics)
        assert found.verdict != "not tested", one.claim
        assert len(found.differences[0]) == seeds, one.claim
        assert found.effects[0].error > 0, one.claim
        assert one.claim in claim_tables.row(found)["Claim"]


def test_policies_of_diversity_differ_in_the_method_alone(grid):
    """All but JustGRPO, which is about the order, take one token a step, with one temperature and as many responses."""
    runs = [grid.runs[name] for name in grid.experiments["diversity"].runs]
    trained = [run for run in runs if run.trains]
    ways = {(run.training.sampler, run.training.temperature) for run in trained if run.method != "just_grpo"}
    (way,) = ways
    assert way == ("top1", 1.0)
    responses = {run.training.buffers * run.training.prompts_per_buffer * run.training.group_size for run in trained}
    assert responses == {2048}
    assert {len(grid.evaluations["diversity"].lengths)} == {1}


def test_the_experiments_are_run_by_name_only(grid):
    assert not set(EXPERIMENTS) & set(grid.everything)


def test_moments_are_beginnings_of_the_same_training(grid):
    """Settings that depend on the number of buffers would make another training of a shorter one."""
    runs = [grid.runs[name] for name in grid.experiments["selection"].runs]
    trained = [run for run in runs if run.trains]
    assert {run.training.schedule for run in trained} == {"constant"}
    for method in ("diffu_grpo", "dmpo"):
        own = [run.training for run in trained if run.method == method]
        assert {one.buffers for one in own} == set(range(18, 33, 2))
        assert len({one.model_copy(update={"buffers": 1}).model_dump_json() for one in own}) == 1
        assert all(one.warmup_ratio * one.buffers * one.updates_per_buffer < 1 for one in own)
        assert all(one.validate_every >= one.buffers for one in own)
