"""Parts of the training loop, each against what it should be: masks, noise, validation, schedule, what resumes."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from helpers.every_method import DIFFU, SEEDS
from helpers.small_trainer import small_trainer
from unmask.common.seeding import Seeds
from unmask.config.schema.samplers import TopK
from unmask.rl.generation import roll_out
from unmask.rl.rollouts import RolloutSettings
from unmask.samplers.settings import DecodingSettings
from unmask.training import validation
from unmask.training.optimizer import adamw, schedule, set_rates
from unmask.training.preemption import Preempted

TOP2 = TopK(tokens_per_step=2, score="confidence")


def settings(rows_per_batch=None):
    decoding = DecodingSettings(24, 8, TOP2, temperature=1.0, rows_per_batch=rows_per_batch)
    return RolloutSettings(group_size=4, decoding=decoding, micro_batch_size=64, dropout=False)


# --- prompt masking ---------------------------------------------------------------------------------------------------


@pytest.fixture
def buffer(policy, sudoku):
    """A buffer of the tiny transformer with rewards of its own, two of its prompts padded."""
    policy.set_reference()
    rollouts = roll_out(policy, sudoku, sudoku.splits()["train"][:2], settings(), SEEDS)
    rollouts.prompt_mask[:4, :3] = False
    rollouts.reward = torch.arange(8.0) % 3
    return rollouts


def inputs_of(model, monkeypatch):
    """The token ids of each forward pass from now on."""
    seen, whole = [], type(model).hidden_states

    def noted(self, ids, *others, **more):
        seen.append(ids)
        return whole(self, ids, *others, **more)

    monkeypatch.setattr(type(model), "hidden_states", noted)
    return seen


def test_prompt_tokens_are_masked_with_the_stated_probability(policy, buffer):
    """Each token of each prompt anew at each update, and never padding: 15 % within four standard errors."""
    buffer_data = DIFFU.prepare(policy, buffer, 40, SEEDS)
    drop = buffer_data.masks["drop"]  # [8, 40, P]
    assert not drop[:4, :, :3].any()
    tokens = int(buffer.prompt_mask.sum()) * 40
    error = math.sqrt(0.15 * 0.85 / tokens)
    assert abs(int(drop.sum()) / tokens - 0.15) < 4 * error
    assert drop.any(1)[buffer.prompt_mask].float().mean() > 0.95  # 1 − 0.85^40 is 0.998: no token is spared
    assert len({tuple(update.flatten().tolist()) for update in drop.unbind(1)}) == 40


def test_old_reference_and_new_policy_see_the_same_masked_prompt(policy, buffer, monkeypatch):
    method = replace(DIFFU, prompt_mask=0.4)
    seen = inputs_of(policy.model, monkeypatch)
    buffer_data = method.prepare(policy, buffer, 2, SEEDS)
    drop = buffer_data.masks["drop"]
    prompts = [torch.where(drop[:, update], 0, buffer.prompt) for update in (0, 1)]
    width = buffer.prompt.shape[1]
    assert [ids[:, :width].tolist() for ids in seen] == [prompt.tolist() for prompt in prompts * 2]  # old, reference
    assert all((ids[:, width:] == 0).all() for ids in seen)  # nothing of the response
    for update in (0, 1):
        seen.clear()
        update_data = method.refresh(policy, buffer, buffer_data, update, SEEDS)
        _, metrics = method.loss(policy, buffer, buffer_data, update_data)
        assert [ids[:, :width].tolist() for ids in seen] == [prompts[update].tolist()]
        assert metrics["clipped"].sum() == 0  # the ratio is one: the policy has not moved


def test_masking_the_prompt_changes_what_the_response_is_scored_at(policy, buffer):
    found = {share: replace(DIFFU, prompt_mask=share).prepare(policy, buffer, 1, SEEDS).old for share in (0.0, 0.4)}
    assert (found[0.0] - found[0.4]).abs().mean() > 1e-3


# --- rollouts ---------------------------------------------------------------------------------------------------------


def test_each_response_has_noise_of_its_own(policy, sudoku):
    """The same prompt twice in one buffer; the buffer is the same again, however many rows are decoded at once."""
    example = sudoku.splits()["train"][0]
    once, again = (roll_out(policy, sudoku, [example] * 2, settings(rows), SEEDS) for rows in (4, 3))
    assert torch.equal(once.prompt[:4], once.prompt[4:])
    assert len(once.response.unique(dim=0)) == 8
    assert torch.equal(once.response, again.response)
    assert torch.equal(once.log_prob_t1, again.log_prob_t1)
    other = roll_out(policy, sudoku, [example] * 2, settings(rows_per_batch=4), SEEDS.child("other"))
    assert not torch.equal(once.response, other.response)


def test_each_buffer_has_noise_of_its_own(config, policy, sudoku, tmp_path, monkeypatch):
    one = small_trainer(config, policy, sudoku, tmp_path, "dmpo", buffers=3, updates_per_buffer=1, learning_rate=1e-9)
    one.examples = one.examples[:2]  # every buffer has the same two prompts
    made = []
    collect = type(one.method).collect
    monkeypatch.setattr(
        type(one.method), "collect", lambda self, *given: made.append(collect(self, *given)) or made[-1]
    )
    one.train()
    responses = {tuple(sorted(map(tuple, rollouts.response.tolist()))) for rollouts in made}
    assert len(responses) == 3


def test_seeds_depend_on_every_part_of_their_key():
    seeds = Seeds(("train", 0))
    numbers = [seeds.number("a"), seeds.number("b"), seeds.number("a", 1), Seeds(("train", 1)).number("a")]
    numbers += [Seeds(("evaluate", 0)).number("a"), seeds.child("a").number("b"), seeds.child("b").number("a")]
    assert len({*numbers}) == len(numbers)
    assert seeds.child("a", 1).number("b") == seeds.number("a", 1, "b")
    assert all(0 <= number < 2**63 for number in numbers)


# --- validation -------------------------------------------------------------------------------------------------------


def test_validation_answers_are_greedy_and_of_the_held_back_examples(config, policy, sudoku, tmp_path, monkeypatch):
    one = small_trainer(config, policy, sudoku, tmp_path, "dmpo", temperature=1.0)
    answers, asked, respond = [], [], validation.respond

    def noted(policy, task, examples, *others, **more):
        asked.append([example["question"] for example in examples])
        made, texts = respond(policy, task, examples, *others, **more)
        answers.append(texts)
        return made, texts

    monkeypatch.setattr(validation, "respond", noted)
    for seed in range(2):
        one.validation.evaluate(policy, sudoku, one._rollout_settings(), one.seeds.child(seed))
    assert answers[0] == answers[1]  # whatever the noise
    held_back = [example["question"] for example in sudoku.splits()["validation"]]
    assert asked == [held_back] * 2
    assert not {*held_back} & {example["question"] for example in one.examples}


@pytest.mark.parametrize(
    ("every", "buffers", "looks"), [(2, 5, [2, 4, 5]), (1, 3, [1, 2, 3]), (3, 3, [3]), (9, 2, [2]), (0, 3, [])]
)
def test_when_validation_looks(every, buffers, looks):
    """Every so many buffers and at the end of the training."""
    one = validation.BestCheckpoint(every)
    assert [buffer for buffer in range(1, buffers + 1) if one.due(buffer, buffers)] == looks


# --- optimiser --------------------------------------------------------------------------------------------------------


@pytest.fixture
def training(grid):
    return next(run for run in grid.runs.values() if run.trains).training


@pytest.mark.parametrize(
    ("kind", "warmup_ratio", "updates", "factors"),
    [
        ("constant", 0.0, 4, [1.0, 1.0, 1.0, 1.0]),
        ("constant", 0.5, 4, [0.5, 1.0, 1.0, 1.0]),
        ("constant", 0.0001, 3, [1.0, 1.0, 1.0]),  # rounded up to one update, which has the whole rate
        ("constant", 0.3, 4, [0.5, 1.0, 1.0, 1.0]),  # rounded up to two
        ("linear", 0.0, 4, [1.0, 0.75, 0.5, 0.25]),
        ("linear", 0.5, 4, [0.5, 1.0, 1.0, 0.5]),
        ("cosine", 0.0, 4, [1.0, 0.55 + 0.45 * math.sqrt(0.5), 0.55, 0.55 - 0.45 * math.sqrt(0.5)]),
        ("cosine", 0.25, 3, [1.0, 1.0, 0.55]),
    ],
)
def test_the_schedule_by_hand(training, kind, warmup_ratio, updates, factors):
    chosen = training.model_copy(update={"schedule": kind, "warmup_ratio": warmup_ratio})
    assert [schedule(update, updates, chosen) for update in range(updates)] == pytest.approx(factors)


def test_the_rates_of_adapter_and_head_follow_the_schedule(training):
    rates = {"learning_rate": 0.5, "sampler_learning_rate": 0.25}
    chosen = training.model_copy(update=rates | {"weight_decay": 0.125})
    parameters = {name: torch.nn.Parameter(torch.zeros(1)) for name in ("lora_A", "head.inner", "lora_B")}
    optimizer = adamw(parameters, chosen)
    for factor in (1.0, 0.5, 0.25):  # of the first rate, not of the one before
        set_rates(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [0.5 * factor, 0.25 * factor]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.125, 0.0]
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 1]


def test_each_update_has_the_rate_of_its_number(config, policy, sudoku, tmp_path, monkeypatch):
    """Also in a run that is stopped and resumed."""
    from unmask.training import trainer

    given = []
    monkeypatch.setattr(trainer, "set_rates", lambda optimizer, factor: given.append(factor))
    training = {"buffers": 2, "updates_per_buffer": 2, "schedule": "linear", "warmup_ratio": 0.0}
    one = small_trainer(config, policy, sudoku, tmp_path, "dmpo", **training)
    one.asked_to_stop = lambda: len(given) == 2
    with pytest.raises(Preempted):
        one.train()
    small_trainer(config, policy, sudoku, tmp_path, "dmpo", **training).train()
    assert given == [1.0, 0.75, 0.5, 0.25]


# --- resumed runs -----------------------------------------------------------------------------------------------------


def test_the_reference_of_a_later_moment_outlives_a_kill(config, make_policy, sudoku, tmp_path):
    """The reference becomes the policy before the third of four buffers; the run stops within it."""
    training = {"buffers": 4, "updates_per_buffer": 2, "reference_sync": 4, "learning_rate": 0.02, "validate_every": 0}

    def start(folder, **more):
        return small_trainer(config, make_policy(), sudoku, tmp_path / folder, "dmpo", **training, **more)

    whole = start("whole")
    kl = [row["kl"] for row in whole.train()]
    assert kl[4] == 0  # of the third buffer, that begins with a new reference
    assert kl[6] != 0
    stopped = start("stopped")
    stopped.asked_to_stop = lambda: len(stopped.metrics) == 5
    with pytest.raises(Preempted):
        stopped.train()
    resumed = start("stopped")
    assert [row["kl"] for row in resumed.train()] == kl
    assert_close(dict(resumed.policy.trainable()), dict(whole.policy.trainable()), rtol=0, atol=0)
