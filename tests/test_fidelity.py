"""The fidelity presets: each sets what docs/fidelity.md says, and nothing else differs."""

import re
from pathlib import Path

import pytest
import torch

from unmask import tasks
from unmask.grid import expand
from unmask.rollout import RolloutSettings, roll_out
from unmask.seeding import Seeds

DOCUMENT = Path(__file__).parents[1] / "docs" / "fidelity.md"
TASKS = ["sudoku", "countdown", "gsm8k", "math500"]
METHODS = ["sft", "diffu_grpo", "d1", "coupled_grpo", "dmpo", "dmpo_sft", "diffpo"]  # others have no code to be true to
PRESETS = ("paper", "released", "corrected")


def documented():
    """(method, task, setting, {preset: value}) of each row of the table; a row may name several methods and tasks."""
    rows = []
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[0].startswith("`"):
            names = [re.findall(r"`([^`]+)`", cell) for cell in cells]
            rows += [
                (method, task, names[2][0], dict(zip(PRESETS, (n[0] for n in names[3:]), strict=True)))
                for method in names[0]
                for task in names[1] or (["s1k"] if method == "sft" else TASKS)  # SFT has one run for all tasks
            ]
    return rows


@pytest.fixture
def settings(config):
    """preset, method, task -> settings at the scale of the papers."""
    config["scale"] = "llada-8b"
    config["scales"]["llada-8b"]["tasks"] = TASKS
    config["experiments"] = {"every": config["experiments"]["main"] | {"methods": METHODS}}
    for scale in config["scales"].values():
        scale |= {"experiments": ["every"], "experiment_changes": {}}
    found = {}
    for preset in PRESETS:
        grid = expand(config | {"fidelity": preset})
        for run in grid.runs.values():
            if run.seed == 0 and run.variant == "default":
                found[preset, run.method, run.task] = {
                    **run.training,
                    **run.method_settings,
                    **{f"tasks.{run.task}.{key}": value for key, value in run.task_settings.items()},
                }
    return found


def as_text(value):
    return "[" + ", ".join(value) + "]" if isinstance(value, list) else str(value).lower()


def test_each_preset_sets_what_its_table_says(settings):
    rows, wrong = documented(), []
    assert {row[0] for row in rows} == set(METHODS)
    assert {row[1] for row in rows} == {"s1k", *TASKS}
    for method, task, key, said in rows:
        for preset in PRESETS:
            value = as_text(settings[preset, method, task][key])
            if value != said[preset] and float_or(value) != float_or(said[preset]):
                wrong.append(f"{preset} {method} {task} {key}: {value}, documented {said[preset]}")
    assert not wrong


def test_every_difference_between_presets_is_in_the_table(settings):
    said = {row[:3] for row in documented()}
    differing = {
        (method, task, key)
        for (preset, method, task), values in settings.items()
        for key, value in values.items()
        if value != settings["corrected", method, task][key]
    }
    assert differing <= said, sorted(differing - said)


def float_or(text):
    try:
        return float(text)
    except ValueError:
        return text


@pytest.mark.parametrize("mask_padding", [True, False])
def test_unmasked_padding_makes_a_response_depend_on_its_batch_mates(policy, sudoku, mask_padding):
    """Longer neighbours pad a prompt; with the released codes' attention this changes its probabilities."""

    class Padded(tasks.Task):
        def messages(self, example):
            return [{"role": "user", "content": example["question"]}]

        def reward(self, response, example):
            return {"none": 0.0}

        def grade(self, response, example):
            return tasks.Grade(None, 0.0, 0.0)

    settings = RolloutSettings(
        group_size=2, length=8, block_length=8, sampler={"rule": "random_order"}, temperature=0.0, rows_per_forward=8,
        dropout=False, mask_padding=mask_padding,
    )  # fmt: skip
    short, long = {"question": "1 + 1"}, {"question": "1 + 1 + 1 + 1 + 1"}
    alone = roll_out(policy, Padded(), [short], settings, Seeds((0,)))
    together = roll_out(policy, Padded(), [short, long], settings, Seeds((0,)))
    assert bool(together.prompt_mask.all()) != mask_padding
    from unmask.likelihood import mean_field

    scores = []
    for rollouts in (alone, together):
        one = rollouts.part(slice(0, 1))
        with torch.no_grad():
            drop = torch.zeros_like(one.prompt_mask)
            scores.append(mean_field(policy.model, one.prompt, one.prompt_mask, alone.response[:1], drop))
    assert torch.allclose(*scores, atol=1e-5) == mask_padding
