"""The fidelity presets against facts: what papers state and released scripts set, with the place of each."""

import os
from pathlib import Path

import pytest
import torch

from facts.check_quotes import missing_quotes
from facts.effective import PRESETS, TASKS, effective_settings, load_facts, places
from facts.render import DOCUMENT, rendered
from unmask import tasks
from unmask.common.seeding import Seeds
from unmask.config.schema.samplers import RandomOrder
from unmask.rl.generation import roll_out
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.settings import DecodingSettings

SOURCED = ("paper", "released")
ABSENT = object()


@pytest.fixture(scope="module")
def settings():
    """Preset -> (method, task) -> path -> value, at the papers' scale."""
    return {preset: effective_settings(preset) for preset in PRESETS}


@pytest.mark.parametrize("preset", SOURCED)
def test_runs_have_the_settings_of_the_facts(settings, preset):
    wrong = []
    for fact in load_facts(preset):
        for place in places(fact):
            value = settings[preset][place].get(fact["setting"], ABSENT)
            said = f"{preset} {'/'.join(place)} {fact['setting']}: the source has {fact['value']!r}"
            if value is ABSENT:
                wrong.append(f"{said}, a run has no such setting")
            elif "differs" not in fact and value != fact["value"]:
                wrong.append(f"{said}, a run {value!r}")
            elif "differs" in fact and value == fact["value"]:
                wrong.append(f"{said}, and so has a run: remove `differs`")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("preset", SOURCED)
def test_every_difference_between_presets_is_a_fact(settings, preset):
    known = {(*place, fact["setting"]) for fact in load_facts(preset) for place in places(fact)}
    found = set()
    for place, values in settings[preset].items():
        ours = settings["corrected"][place]
        found |= {(*place, path) for path, value in values.items() if value != ours.get(path, ABSENT)}
    assert found <= known, sorted(found - known)


def test_facts_name_their_source():
    common = {"setting", "value", "methods", "tasks", "note", "why", "differs"}
    for fact in load_facts("paper"):
        assert fact.keys() <= common | {"paper", "arxiv", "place"}, fact
        assert {"arxiv", "place"} <= fact.keys(), fact
    for fact in load_facts("released"):
        if "choice" in fact:
            assert fact.keys() <= common | {"choice"}, fact
            assert "why" in fact, fact
            continue
        assert fact.keys() <= common | {"code", "repository", "commit", "file", "line", "quote"}, fact
        assert {"repository", "commit", "file", "line", "quote"} <= fact.keys(), fact
        assert len(fact["commit"]) == 40, fact
        assert len(fact["quote"]) < 120, fact


def test_a_released_value_that_is_not_ours_has_a_reason(settings):
    """What is done by default where a released code does something else, and why."""
    reasons = {}
    for fact in load_facts("released") + load_facts("paper"):
        for place in places(fact):
            reasons.setdefault((*place, fact["setting"]), []).append(fact)
    for (method, task, path), facts in reasons.items():
        ours = settings["corrected"][method, task].get(path)
        if any(fact["value"] != ours for fact in facts):
            assert any("why" in fact or "differs" in fact for fact in facts), (method, task, path)


def test_tables_of_the_document_are_up_to_date():
    command = "make fidelity, or PYTHONPATH=src:tests python -m facts.render"
    assert DOCUMENT.read_text(encoding="utf-8") == rendered(), f"run {command}"


@pytest.mark.skipif("RELEASED_CODE" not in os.environ, reason="RELEASED_CODE does not name a folder of checkouts")
def test_quotes_are_on_their_lines():
    assert not missing_quotes(Path(os.environ["RELEASED_CODE"]))


def test_facts_cover_every_method_and_task():
    known = [place for fact in load_facts("released") for place in places(fact)]
    assert len(load_facts("released")) >= 60
    assert {method for method, _ in known} == {*{m for m, _ in effective_settings("released")}}
    assert set(TASKS) < {task for _, task in known}


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

    decoding = DecodingSettings(8, 8, RandomOrder(), temperature=0.0, mask_padding=mask_padding)
    settings = RolloutSettings(group_size=2, decoding=decoding, micro_batch_size=8, dropout=False)
    short, long = {"question": "1 + 1"}, {"question": "1 + 1 + 1 + 1 + 1"}
    alone = roll_out(policy, Padded(), [short], settings, Seeds((0,)))
    together = roll_out(policy, Padded(), [short, long], settings, Seeds((0,)))
    assert bool(together.prompt_mask.all()) != mask_padding
    from unmask.rl.likelihoods import mean_field

    scores = []
    for rollouts in (alone, together):
        one = rollouts.part(slice(0, 1))
        with torch.no_grad():
            drop = torch.zeros_like(one.prompt_mask)
            scores.append(mean_field(policy.model, one.prompt, one.prompt_mask, alone.response[:1], drop))
    assert torch.allclose(*scores, atol=1e-5) == mask_padding
