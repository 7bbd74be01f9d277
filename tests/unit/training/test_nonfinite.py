"""Faults in training: NaN and infinity, rewards that raise, groups without a difference, prompts that do not fit."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from helpers.small_trainer import sudoku_trainer
from helpers.streams import streams
from unmask.common.errors import InputError
from unmask.config.schema.samplers import RandomOrder
from unmask.rl.generation import encode_prompts, respond
from unmask.samplers.settings import DecodingSettings
from unmask.tasks.sudoku import Sudoku
from unmask.training.checkpoint import Checkpoint
from unmask.training.nonfinite import MOST_SKIPPED

RUN = "dmpo/sudoku/default/seed-0"


class Spoiling:
    """A method whose loss is spoilt at some updates, counted from 1."""

    def __init__(self, method, spoil, updates, done=0):
        self.method, self.spoil, self.updates, self.done = method, spoil, updates, done

    def __getattr__(self, name):
        return getattr(self.method, name)

    def refresh(self, *arguments):
        self.done += 1
        return self.method.refresh(*arguments)

    def losses(self, *arguments):
        for rows, metrics in self.method.losses(*arguments):
            yield self.spoil(rows) if self.done in self.updates else rows, metrics


SPOILS = {
    "NaN in the loss": lambda rows: rows * math.nan,
    "infinite loss": lambda rows: rows + math.inf,
    "NaN in the gradient": lambda rows: rows + (rows * 0).sqrt(),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_spoilt_update_changes_nothing_and_is_counted(config, policy, sudoku, tmp_path, spoil):
    one = sudoku_trainer(config, policy, sudoku, tmp_path, buffers=1, updates_per_buffer=2)
    one.method = Spoiling(one.method, spoil, updates={2})
    metrics = one.train()
    assert [row["skipped"] for row in metrics] == [0, 1]
    before, after = load_file(tmp_path / "step-000001/parameters.safetensors"), Checkpoint.newest(tmp_path, "x")
    assert after.step == 2
    assert all(torch.equal(after.parameters[name], value) for name, value in before.items())
    assert {float(value) for name, value in after.optimizer.items() if name.endswith(".step")} == {1.0}


def test_spoilt_updates_in_a_row_stop_the_training_again_and_again(config, policy, make_policy, sudoku, tmp_path):
    first, last = 4, 3 + MOST_SKIPPED
    for begun, fresh in ((0, policy), (7, make_policy())):  # the second start resumes from the checkpoint of update 7
        one = sudoku_trainer(config, fresh, sudoku, tmp_path, buffers=5, updates_per_buffer=2)
        one.method = Spoiling(one.method, SPOILS["NaN in the loss"], set(range(first, 99)), done=begun)
        batch = tmp_path / "spoilt" / f"step-{last:06d}" / "buffer.safetensors"
        with pytest.raises(InputError, match=f"{RUN}: {MOST_SKIPPED} updates in a row, .* update {last}, .*{batch}"):
            one.train()
        assert load_file(batch)["rollouts.reward"].shape == (8,)
        metrics = json.loads(batch.with_name("state.json").read_text())["metrics"]
        assert [row["skipped"] for row in metrics] == [0] * (first - 1) + [1] * MOST_SKIPPED


def test_fewer_spoilt_updates_in_a_row_do_not_stop_it(config, policy, sudoku, tmp_path):
    one = sudoku_trainer(config, policy, sudoku, tmp_path, buffers=5, updates_per_buffer=2)
    one.method = Spoiling(one.method, SPOILS["infinite loss"], {1, 2, 3, 4, 6, 7, 8, 9})
    assert sum(row["skipped"] for row in one.train()) == 8


def test_nan_in_the_logits_ends_training_and_validation(config, make_policy, sudoku, tmp_path):
    """At the first rollout, in the middle of the third buffer's, and in an evaluation on the validation split."""
    settings = {"validate_every": 1, "buffers": 3, "updates_per_buffer": 1}
    for call in (0, 14, 53):
        one = sudoku_trainer(config, make_policy(), sudoku, tmp_path / str(call), **settings)
        calls = iter(range(10**9))
        one.policy.model.lm_head.register_forward_hook(
            lambda _module, _inputs, logits, calls=calls, call=call: logits * (math.nan if next(calls) >= call else 1)
        )
        with pytest.raises(InputError, match=r"decoding: row \d, block \d, position \d+ .*: the model's logits there"):
            one.train()


RAISES = {
    "ZeroDivisionError: division by zero": lambda *_: {"correct": 1 / 0},
    "ValueError: the reward is nan": lambda *_: {"correct": math.nan},
    "ValueError: the reward is inf": lambda *_: {"correct": math.inf},
    "AttributeError: 'NoneType' object has no attribute 'values'": lambda *_: None,
}


@pytest.mark.parametrize("said", RAISES)
def test_a_reward_that_fails_names_task_example_and_response(config, policy, sudoku, tmp_path, monkeypatch, said):
    asked = []
    monkeypatch.setattr(Sudoku, "reward", lambda *arguments: (asked.append(arguments), RAISES[said]())[1])
    with pytest.raises(InputError) as caught:
        sudoku_trainer(config, policy, sudoku, tmp_path).train()
    (_, response, example) = asked[-1]
    place = f"on the example {example['question']!r} and the response {response!r}."
    assert str(caught.value).startswith(f"tasks.sudoku: {said} (")
    assert place in str(caught.value)


def test_a_grade_that_raises_names_its_line(policy, sudoku, monkeypatch):
    from unmask.tasks import grade_response

    monkeypatch.setattr(Sudoku, "grade", lambda *_: [][0])
    with pytest.raises(
        InputError, match=r"tasks.sudoku: IndexError: .* \(test_nonfinite.py, line \d+\) on the example '1'"
    ):
        grade_response(sudoku, "any", {"question": "1"})


@pytest.mark.parametrize("method", ["diffu_grpo", "coupled_grpo", "diffpo", "dmpo"])
def test_groups_without_a_difference_are_counted_and_harmless(config, policy, sudoku, tmp_path, monkeypatch, method):
    monkeypatch.setattr(Sudoku, "reward", lambda *_: {"correct": 1.0})
    config["scales"]["smoke"]["methods"][method] = {"group_size": 4, "updates_per_buffer": 2}
    metrics = sudoku_trainer(config, policy, sudoku, tmp_path, method).train()
    assert {(row["flat_groups"], row["skipped"], row["reward"]) for row in metrics} == {(1.0, 0, 1.0)}
    assert all(math.isfinite(row["loss"] + row["grad_norm"]) for row in metrics)
    assert all(bool(parameter.isfinite().all()) for parameter in policy.trainable().values())


def test_one_flat_group_of_two_is_a_half(config, policy, sudoku, tmp_path, monkeypatch):
    rewards = iter([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    monkeypatch.setattr(Sudoku, "reward", lambda *_: {"correct": next(rewards)})
    (row,) = sudoku_trainer(config, policy, sudoku, tmp_path, buffers=1, updates_per_buffer=1).train()
    assert row["flat_groups"] == 0.5


def test_a_prompt_that_does_not_fit_is_named(policy, sudoku):
    short, long = sudoku.splits()["train"][:2]
    long = long | {"question": long["question"] + "0"}
    tokens = len(policy.prompt_ids(sudoku.messages(short), sudoku.prefill))
    policy.model.config.max_position_embeddings = tokens + 24
    prompts, _ = encode_prompts(policy, sudoku, [short], 24)
    assert prompts.shape == (1, tokens)
    said = (
        rf"tasks.sudoku: a prompt of {tokens + 1} tokens and a response of 24 .* of {tokens + 24}: '{long['question']}'"
    )
    with pytest.raises(InputError, match=said):
        respond(policy, sudoku, [short, long], DecodingSettings(24, 8, RandomOrder(), 0.0), streams(2))


def test_a_training_names_the_prompt_that_does_not_fit(config, policy, sudoku, tmp_path):
    policy.model.config.max_position_embeddings = 30
    with pytest.raises(InputError, match=r"exceed the model's context of 30: '[0-4]{16}'"):
        sudoku_trainer(config, policy, sudoku, tmp_path).train()
