"""Prompts of training: with or without the beginning of the response, and cut from the left where asked for."""

import pytest
import torch

from unmask import methods, tasks
from unmask.common.seeding import Seeds
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.schema.samplers import RandomOrder
from unmask.rl import generation
from unmask.rl.generation import as_rollouts, encode_prompts, roll_out
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import without_prefill
from unmask.training.trainer import Trainer

QUESTIONS = ["1 + 1", "1 + 1 + 1 + 1 + 1 + 1"]
EXAMPLES = [{"question": question} for question in QUESTIONS]


class Sums(tasks.Task):
    """Problems whose reward is the length of what the reward reads."""

    def messages(self, example):
        return [{"role": "user", "content": example["question"]}]

    def reward(self, response, example):
        return {"given": float(len(self.prefill))}

    def grade(self, response, example):
        return tasks.Grade(None, 0.0, 0.0)


def settings(**changes):
    decoding = DecodingSettings(8, 8, RandomOrder(), temperature=1.0)
    return RolloutSettings(2, decoding, micro_batch_size=8, dropout=False, name="a run", **changes)


def prompts(rollouts):
    return [ids[seen].tolist() for ids, seen in zip(rollouts.prompt, rollouts.prompt_mask, strict=True)]


def whole(policy, prefill):
    return [policy.prompt_ids([{"role": "user", "content": question}], prefill) for question in QUESTIONS]


@pytest.mark.parametrize(("prefill", "given"), [(True, "<reasoning>"), (False, "")])
def test_without_prefill_the_policy_writes_the_beginning_and_the_reward_reads_what_it_wrote(policy, prefill, given):
    made = roll_out(policy, Sums(), EXAMPLES, settings(prefill=prefill), Seeds((0,)))
    assert prompts(made)[::2] == whole(policy, given)
    assert made.reward.tolist() == [float(len(given))] * 4
    assert made.cut is None


def test_a_task_without_prefill_is_a_copy(sudoku):
    assert without_prefill(sudoku).prefill == ""
    assert sudoku.prefill == "<reasoning>"
    assert without_prefill(sudoku) == sudoku  # in all settings


def test_long_prompts_lose_their_beginning_and_are_counted(policy, capsys):
    """As the released trainers: the last tokens of the padded batch are kept."""
    short, long = whole(policy, "<reasoning>")
    longest = len(short) + 1
    assert len(long) > longest
    made = roll_out(policy, Sums(), EXAMPLES, settings(max_prompt_length=longest), Seeds((0,)))
    assert prompts(made)[::2] == [short, long[-longest:]]
    assert made.prompt.shape[1] == longest
    assert made.cut.tolist() == [False, False, True, True]
    said = f"a run: 1 of 2 prompts are longer than max_prompt_length, {longest} tokens; they lose their beginning"
    assert said in capsys.readouterr().out


def test_prompts_that_fit_are_whole_and_nothing_is_said(policy, capsys):
    longest = max(map(len, whole(policy, "<reasoning>")))
    made = roll_out(policy, Sums(), EXAMPLES, settings(max_prompt_length=longest), Seeds((0,)))
    uncut = roll_out(policy, Sums(), EXAMPLES, settings(), Seeds((0,)))
    assert torch.equal(made.prompt, uncut.prompt)
    assert torch.equal(made.response, uncut.response)
    assert not made.cut.any()
    assert capsys.readouterr().out == ""


def test_given_responses_have_the_same_prompts(policy):
    short, long = whole(policy, "<reasoning>")
    made = as_rollouts(policy, Sums(), EXAMPLES, ["1", "2"], settings(max_prompt_length=len(short)))
    assert prompts(made) == [short, long[-len(short) :]]


def trained(config, policy, sudoku, folder, **training):
    """The metrics of a short training run."""
    config["methods"]["dmpo"] |= {"buffers": 1, "updates_per_buffer": 1, "validate_every": 0, **training}
    config["experiments"]["main"]["methods"] = ["dmpo"]
    run = expand(config).runs["dmpo/sudoku/default/seed-0"]
    method, examples = methods.load(run.algorithm, run.method_settings), sudoku.splits()["train"]
    return Trainer(run, policy, method, sudoku, examples, folder, "x").train()


def test_a_training_run_follows_both_settings(config, policy, sudoku, tmp_path, monkeypatch):
    seen = []

    def posing(policy, task, *rest):
        found = encode_prompts(policy, task, *rest)
        seen.append((task.prefill, found[0].shape[1]))
        return found

    monkeypatch.setattr(generation, "encode_prompts", posing)
    (row,) = trained(config, policy, sudoku, tmp_path, prefill=False, max_prompt_length=5)
    assert row["prompts_cut"] == 1.0
    assert seen == [("", 6)]  # one more than is kept shows which prompts are longer


def test_metrics_say_nothing_of_prompts_where_none_may_be_cut(config, policy, sudoku, tmp_path):
    assert "prompts_cut" not in trained(config, policy, sudoku, tmp_path)[0]


def test_presets_at_the_papers_scale(config):
    config |= {"scale": "llada-8b", "fidelity": "released"}
    training = expand(config).runs["dmpo/gsm8k/default/seed-0"].training
    assert (training.prefill, training.max_prompt_length) == (False, 200)
    training = expand(config | {"fidelity": "corrected"}).runs["dmpo/gsm8k/default/seed-0"].training
    assert (training.prefill, training.max_prompt_length) == (True, 0)


def test_demonstrations_need_the_prefill(config):
    config["experiments"]["main"]["methods"] = ["base", "sft"]
    config["methods"]["sft"]["prefill"] = False
    with pytest.raises(ConfigError, match=r"methods\.sft\.prefill: demonstrations of .* set it to true"):
        expand(config)
