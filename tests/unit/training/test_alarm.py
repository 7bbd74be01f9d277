"""The collapse alarm: every cause on a curve made by hand, none on healthy ones, the same after a resumption."""

import math
from dataclasses import replace

import numpy as np
import pytest

from helpers.small_trainer import preemptible_trainer, same, sudoku_trainer, trained
from unmask.common.alarms import MEANINGS, Cause
from unmask.training import alarm
from unmask.training.alarm import WINDOW, causes, fell
from unmask.training.preemption import Preempted

HEALTHY = {"reward": 0.5, "accuracy": 0.4, "tokens": 20.0, "flat_groups": 0.1, "partial_credit": 0.3, "clipped": 0.01}


def rows(*phases, updates=1):
    """Metrics of WINDOW buffers for each phase, which replaces values of HEALTHY; a list has a value per update."""
    made = []
    for phase in phases:
        for _ in range(WINDOW):
            for update in range(updates):
                values = {key: value[update] if isinstance(value, list) else value for key, value in phase.items()}
                made.append(HEALTHY | values | {"step": len(made) + 1})
    return made


def of(*phases, group_size=8, **options):
    return causes(rows(*phases, **options), options.get("updates", 1), group_size)


# --- a fall -----------------------------------------------------------------------------------------------------------


def test_a_fall_by_hand():
    """Windows of 0, 1 and x: the gain is 1, and x = 0.4 is a fall by more than half of it; x = 0.5 is not.

    Of 23 differences one is +1, which is left out, and one −0.6, so the noise has the variance 0.36/22/2 = 0.00818, the
    difference of two windows the standard error √(2 · 0.00818/8) = 0.0452, and six of them are 0.271 < 0.6.
    """
    curve = np.repeat([0.0, 1.0, 0.4], 8)
    assert WINDOW == 8
    assert fell(curve)
    assert not fell(np.repeat([0.0, 1.0, 0.5], 8))
    noise = 0.36 / 22 / 2
    assert 6 * math.sqrt(2 * noise / 8) == pytest.approx(0.271, abs=1e-3)
    assert not fell(curve[:16])  # no window before the last one is better than the first


def test_noise_is_no_fall_and_a_fall_in_noise_is_one():
    """Answers of 8 prompts a buffer: a curve that stays, one that rises and levels off, and one that breaks down."""
    random = np.random.default_rng(0)
    rise = np.concatenate((np.linspace(0.1, 0.7, 100), np.full(200, 0.7)))
    broken = np.concatenate((rise, np.full(WINDOW, 0.05)))
    ends = range(2 * WINDOW, len(broken) + 1)
    for _ in range(5):
        still = random.binomial(64, 0.3, 300) / 64
        grown = random.binomial(64, broken) / 64
        assert not any(fell(still[:end]) for end in ends if end <= 300)
        assert not any(fell(grown[:end]) for end in ends if end <= 300)
        assert fell(grown)


@pytest.mark.parametrize("healthy", [2, 3, 5, 20])
def test_a_collapse_within_one_buffer_is_a_fall_however_early(healthy):
    """The jump is no noise: with it, the noise of a policy that breaks down in its third buffer would hide the fall."""
    random = np.random.default_rng(healthy)
    curve = np.concatenate((random.normal(0.5, 0.03, healthy), random.normal(0.05, 0.02, 32 - healthy)))
    assert any(fell(curve[:end]) for end in range(2 * WINDOW, 33))


# --- causes -----------------------------------------------------------------------------------------------------------

START = {"reward": 0.1, "accuracy": 0.1, "partial_credit": 0.2}
BEST = {"reward": 0.6, "accuracy": 0.5}
LOST = {"reward": 0.0, "accuracy": 0.0}
TRAP = {"reward": 0.1, "accuracy": 0.1, "partial_credit": 0.9, "flat_groups": 0.8}
CURVES = {
    "reward below its start": (Cause.REWARD_FELL, START, {"reward": 0.02, "accuracy": 0.1}),
    "half of the gain lost": (Cause.REWARD_FELL, START, BEST, {"reward": 0.3, "accuracy": 0.4}),
    "paid without being right": (Cause.ACCURACY_FELL, START, BEST, {"reward": 0.7, "accuracy": 0.1}),
    "both fell, and short": (Cause.REWARD_FELL | Cause.LENGTH, START, BEST, LOST | {"tokens": 9}),
    "both fell, and long": (Cause.REWARD_FELL | Cause.LENGTH, START, BEST, LOST | {"tokens": 41}),
    "trapped": (Cause.PARTIAL_CREDIT, START, TRAP),
    "one response a group": (Cause.EFFECTIVE_SAMPLE_SIZE, {"effective_sample_size": 1.4 / 8}),
    "few tokens": (Cause.EFFECTIVE_SAMPLE_SIZE, {"importance_mean": 0.5, "importance_squared": 2.6}),
    "clipped": (Cause.CLIPPED, {"clipped": 0.91}),
    "clamped": (Cause.CLIPPED, {"clamped": 0.997}),
    "thresholds clipped": (Cause.CLIPPED, {"threshold_clipped": 1.0}),
}  # fmt: skip
HARMLESS = {
    "rises and levels off": (START, BEST, BEST | {"reward": 0.55, "accuracy": 0.46}),
    "gives back less than half": (START, BEST, {"reward": 0.4, "accuracy": 0.35}),
    "halves its length while it learns": ({"tokens": 60} | START, BEST, BEST | {"tokens": 20}),
    "accuracy always 0, graded rewards": [{"reward": r, "accuracy": 0, "partial_credit": r} for r in (0.5, 0.7, 0.95)],
    "hard from the start": ({"reward": 0.1, "accuracy": 0.02, "partial_credit": 0.85, "flat_groups": 0.7},) * 3,
    "weights of two responses": ({"effective_sample_size": 2 / 8},),
    "one token in nine": ({"importance_mean": 0.5, "importance_squared": 2.25},),
    "half clipped": ({"clipped": 0.5},),
    "demonstrations": ({"reward": 1.0, "accuracy": 1.0, "partial_credit": 0.0, "flat_groups": 1.0},) * 3,
    "a corpus": (dict.fromkeys(HEALTHY, math.nan),) * 3,
}  # fmt: skip


@pytest.mark.parametrize(("expected", "phases"), [(one[0], one[1:]) for one in CURVES.values()], ids=CURVES)
def test_each_cause(expected, phases):
    assert of(*phases) == expected


@pytest.mark.parametrize("phases", HARMLESS.values(), ids=HARMLESS)
def test_healthy_curves_have_none(phases):
    assert of(*phases) == Cause(0)


def test_every_cause_has_a_curve_and_a_meaning():
    assert {cause for expected, *_ in CURVES.values() for cause in expected} == set(Cause) == set(MEANINGS)


def test_the_last_update_of_a_buffer_counts_and_only_complete_buffers():
    """Of four updates, the first has a ratio of 1: the mean would hide that the last three are clipped."""
    clipped = {"clipped": [0.0, 0.95, 0.95, 0.95]}
    made = rows(clipped, updates=4)
    assert np.mean([row["clipped"] for row in made]) < 0.9
    assert causes(made, 4, 8) == Cause.CLIPPED
    assert causes(made[:-1], 4, 8) == Cause(0)  # seven complete buffers are no window


def test_a_small_group_needs_fewer_effective_responses():
    """A share of 0.5 is one response of two, and eight of sixteen."""
    phase = {"effective_sample_size": 0.5}
    assert of(phase, group_size=2) == Cause.EFFECTIVE_SAMPLE_SIZE
    assert of(phase, group_size=16) == Cause(0)


# --- in a training ----------------------------------------------------------------------------------------------------


def test_a_cause_is_printed_once_and_rows_of_older_code_have_none(grid, capsys):
    run = replace(grid.runs["dmpo/sudoku/default/seed-0"])
    run = replace(run, training=run.training.model_copy(update={"updates_per_buffer": 1, "group_size": 8}))
    made = rows(START, BEST, LOST, LOST | {"clipped": 1.0})
    for end in range(1, len(made) + 1):
        alarm.mark(run, made[:end])
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert "seed-0: collapse alarm after update" in said[0]
    assert "reward fell (the mean reward has lost half" in said[0]
    assert "clipped (nearly all" in said[1]
    assert "reward" not in said[1]
    assert [row["alarm"] for row in (made[0], made[23], made[31])] == [0, 1, 33]

    # A checkpoint of older code has rows without the column.
    old = [{key: value for key, value in row.items() if key not in ("alarm", "partial_credit")} for row in made]
    alarm.mark(run, old)
    assert old[-1]["alarm"] == 33


def test_a_resumed_training_raises_the_same_alarm_once(config, make_policy, sudoku, tmp_path, monkeypatch, capsys):
    """Every group counts as concentrated here, and one buffer is a window: the alarm begins after two updates."""
    monkeypatch.setattr(alarm, "WINDOW", 1)
    monkeypatch.setattr(alarm, "fell", lambda _: False)  # its noise needs three buffers
    monkeypatch.setattr(alarm, "FEWEST_RESPONSES", 99)
    whole = preemptible_trainer(config, make_policy(), sudoku, tmp_path / "whole").train()
    warned = capsys.readouterr().out.count("collapse alarm")
    assert [row["alarm"] for row in whole] == [0, 16, 16, 16]

    polls = iter(range(99))
    stopped = preemptible_trainer(config, make_policy(), sudoku, tmp_path / "killed", lambda: next(polls) == 2)
    with pytest.raises(Preempted):
        stopped.train()
    resumed = preemptible_trainer(config, make_policy(), sudoku, tmp_path / "killed").train()
    assert [row["alarm"] for row in resumed] == [row["alarm"] for row in whole]
    assert capsys.readouterr().out.count("collapse alarm") == warned == 1


def test_the_alarm_changes_no_bit_of_a_training(config, make_policy, sudoku, tmp_path, monkeypatch):
    watched = trained(sudoku_trainer(config, make_policy(), sudoku, tmp_path / "watched"))
    monkeypatch.setattr(alarm, "mark", lambda *_: None)
    assert same(watched, trained(sudoku_trainer(config, make_policy(), sudoku, tmp_path / "unwatched")))


def test_partial_credit_counts_paid_wrong_responses(config, policy, sudoku, tmp_path, monkeypatch):
    """Rewards 1 (wrong, as every board of random weights), 0.5, 0 and 0: half of the responses are paid."""
    rewards = iter([1.0, 0.5, 0.0, 0.0] * 2)
    monkeypatch.setattr(type(sudoku), "reward", lambda *_: {"correct": next(rewards)})
    (row,) = sudoku_trainer(config, policy, sudoku, tmp_path, buffers=1, updates_per_buffer=1).train()
    assert row["accuracy"] == 0
    assert row["partial_credit"] == 0.5
