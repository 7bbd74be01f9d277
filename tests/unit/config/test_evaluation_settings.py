"""What an evaluation may be set to, and what a fidelity or scale puts in its place."""

from dataclasses import replace

import pytest
import torch

from helpers.streams import streams
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.normalize import normalise
from unmask.config.schema import Config
from unmask.config.schema.samplers import TopK
from unmask.evaluation import evaluate
from unmask.evaluation.shards import ShardStore
from unmask.rl.generation import evaluation_prompts, respond
from unmask.samplers.settings import DecodingSettings

TOP1 = TopK(tokens_per_step=1, score="confidence")
PROMPTS = ["1 + 1", "1 + 1 + 1 + 1 + 1 + 1 + 1"]


class Sums:
    prefill = ""

    def messages(self, example):
        return [{"role": "user", "content": example["question"]}]


@pytest.mark.parametrize("mask_padding", [True, False])
def test_only_unmasked_padding_makes_an_answer_depend_on_its_batch(policy, mask_padding):
    """As in the released evaluation of LLaDA, where the problems of a batch share one width."""

    def log_probs(prompts):
        settings = DecodingSettings(8, 8, TOP1, temperature=0.0, mask_padding=mask_padding)
        made, _ = respond(policy, Sums(), [{"question": prompt} for prompt in prompts], settings, streams(len(prompts)))
        return made.log_prob_t1[0]

    assert torch.allclose(log_probs(PROMPTS[:1]), log_probs(PROMPTS), atol=1e-5) == mask_padding


def test_unmasked_padding_is_that_of_the_batch(policy):
    """The problems of a batch of two share a width; those of the next batch do not change it."""
    examples = [{"question": PROMPTS[0]}, {"question": PROMPTS[0] + "+ 1"}, {"question": PROMPTS[1]}]
    settings = DecodingSettings(8, 8, TOP1, temperature=0.0, rows_per_batch=2, mask_padding=False)
    _, real = evaluation_prompts(policy, Sums(), examples, replace(settings, mask_padding=True))
    size = real.sum(1).tolist()
    prompt, mask = evaluation_prompts(policy, Sums(), examples, settings)
    assert mask.sum(1).tolist() == [size[1], size[1], size[2]]
    assert prompt.shape[1] == size[2]
    assert not (mask[:, :-1] & ~mask[:, 1:]).any()  # padding is on the left


@pytest.mark.parametrize("mask_padding", [True, False])
def test_an_evaluation_decodes_as_its_spec_says(config, policy, sudoku, tmp_path, monkeypatch, mask_padding):
    config["evaluations"]["papers"] |= {"mask_padding": mask_padding, "samplers": ["top1"]}
    grid, seen, prompts = expand(config), [], evaluate.evaluation_prompts

    def noted(policy, task, examples, settings):
        seen.append(settings.mask_padding)
        return prompts(policy, task, examples, settings)

    monkeypatch.setattr(evaluate, "evaluation_prompts", noted)
    run, spec = grid.runs["base/sudoku/default/seed-0"], grid.evaluations["papers"]
    evaluate.evaluate(policy, sudoku, sudoku.splits()["test"], run, spec, ShardStore(tmp_path / "parts", "x"))
    assert set(seen) == {mask_padding}


def evaluations(config, fidelity):
    return expand(config | {"fidelity": fidelity}).evaluations


def test_the_released_evaluation_attends_to_padding_and_dreams_does_not(config):
    assert evaluations(config, "corrected")["papers"].mask_padding
    released = evaluations(config, "released")
    assert (released["papers"].mask_padding, released["papers"].rows_per_batch) == (False, 8)
    assert released["dream"].mask_padding


def test_a_scale_replaces_what_a_fidelity_does(config):
    config["fidelities"]["released"]["evaluations"] = {"papers": {"temperature": 0.5, "rows_per_batch": 7}}
    config["scales"]["smoke"]["evaluations"] = {"papers": {"rows_per_batch": 3}}
    found = evaluations(config, "released")["papers"]
    assert (found.temperature, found.rows_per_batch) == (0.5, 3)


def test_a_temperature_of_the_fidelity_makes_an_evaluation_random(config):
    config["fidelities"]["released"]["evaluations"] = {"papers": {"temperature": 0.5}}
    assert Config.model_validate(normalise(config)).deterministic("main")
    assert not Config.model_validate(normalise(config | {"fidelity": "released"})).deterministic("main")


def test_an_evaluation_may_have_the_length_of_training_alone(config):
    config["scales"]["smoke"]["evaluations"] = {"papers": {"lengths": "training"}}
    found = evaluations(config, "corrected")
    scale = config["scales"]["smoke"]
    assert len(scale["lengths"]) > 1
    assert found["papers"].lengths == [scale["training"]["generation_length"]]
    assert found["pareto"].lengths == scale["lengths"]


def test_defaults_leave_a_spec_as_it_is(config):
    assert "mask_padding" not in evaluations(config, "corrected")["papers"].values()


@pytest.mark.parametrize(
    ("where", "change", "said"),
    [
        ("fidelities", {"papers": {"mask_pading": False}}, "evaluations.papers: unknown 'mask_pading'; did you mean"),
        ("fidelities", {"paper": {"temperature": 0.1}}, "evaluations: unknown 'paper'; did you mean 'papers'"),
        ("scales", {"papers": {"samplers": ["top3"]}}, "evaluations.papers.samplers: unknown 'top3'"),
        ("scales", {"papers": {"rows_per_batch": 0}}, "evaluations.papers.rows_per_batch"),
    ],
)
def test_mistakes_in_replaced_evaluations_are_named(config, where, change, said):
    name = "smoke" if where == "scales" else "released"
    config[where][name]["evaluations"] = change
    with pytest.raises(ConfigError) as error:
        expand(config)
    assert f"{where}.{name}.{said}" in str(error.value)
