"""SFT on a corpus: tokens, masks and loss as in the released SFT code of d1, and one run a seed for all tasks.

The facts are those of dllm-reasoning/d1 at 837888f, SFT/sft_trainer.py. Its `preprocess_dataset`, collator and
loss were run on 200 generated rows with the tokenizer of conversations.py, cut to 640 and to 320 tokens: token ids,
prompt lengths and the order of the rows were equal, and the loss of 16 rows to 1e-6 (5.0659 at 640 tokens, 5.8605 at
320; both without the logit of [MASK], which the released loss has: 5.0686 and 5.8640).
"""

import dataclasses
import importlib
import json
import math
import random

import pytest
import torch

from helpers.conversations import llada_tokenizer, s1k_rows, write_rows
from unmask.common.errors import InputError
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.config.errors import ConfigError
from unmask.config.grid.expand import expand
from unmask.config.schema.samplers import RandomOrder
from unmask.methods.sft import Sft
from unmask.models.policy import Policy
from unmask.models.shapes import LLADA_8B, flops_per_token
from unmask.models.tiny import build_model
from unmask.planning.flops import training_flops
from unmask.planning.memory import training_memory
from unmask.rl.buffer_data import NoData
from unmask.rl.rollouts import RolloutSettings
from unmask.rl.sequences import as_sequences
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import load
from unmask.training.optimizer import schedule

FACTS = {
    "response": "<reasoning>{trace}</reasoning>\n<answer>{attempt}</answer>",  # line 118
    "prompt_ends_in": "\n",  # line 122, after the template of the prompt
    "seed": 42,  # sft_train.py, line 140
    "kept_back": 0.01,  # line 114
    "least_rate": 1e-3,  # line 71
}
ROW = {"question": "1+1?", "thinking_trajectories": ["Two."], "attempt": "2"}


@pytest.fixture
def llada():
    """An untrained tiny model that reads any text, in LLaDA's chat template."""
    tokenizer = llada_tokenizer()
    shape = {"hidden_size": 16, "layers": 1, "heads": 2, "mlp_size": 24, "rope_theta": 1e4}
    return Policy(build_model(**shape, vocabulary=len(tokenizer), seed=0).eval(), tokenizer)


@pytest.fixture
def corpus(tmp_path):
    """Makes s1K of some rows, posed without instructions."""
    (tmp_path / "prompt.txt").write_text("{question}", encoding="utf-8")

    def make(*rows):
        write_rows(tmp_path / "train.jsonl", rows)
        source = {"source": "local", "path": str(tmp_path / "train.jsonl")}
        settings = {"train_source": source, "validation": 0.01, "seed": 42, "prompt_file": str(tmp_path / "prompt.txt")}
        return load("s1k", settings)

    return make


def settings(length, group_size=1):
    return RolloutSettings(
        group_size, DecodingSettings(length, 8, RandomOrder(), 0.0), micro_batch_size=4, dropout=False
    )


def test_a_row_by_hand(llada, corpus):
    task = corpus(ROW)
    rollouts = as_sequences(llada, task, task.splits()["train"], settings(160))
    (ids,), (learnt,) = rollouts.response, rollouts.learnt
    prompt = "<|startoftext|><|start_header_id|>user<|end_header_id|>\n\n1+1?<|eot_id|>"
    response = FACTS["response"].format(trace="Two.", attempt="2")
    whole = f"{prompt}<|start_header_id|>assistant<|end_header_id|>\n\n{response}<|eot_id|>"
    tokens = len(llada.tokenizer(whole).input_ids)
    assert llada.tokenizer.decode(ids[:tokens]) == whole
    assert ids[tokens:].eq(llada.eot).all()  # padding is end of text
    assert len(ids) == 160 > tokens
    # Counted with a line break after the prompt, so that the header's first token is prompt and its rest is learnt.
    asked = len(llada.tokenizer(prompt + FACTS["prompt_ends_in"]).input_ids)
    assert learnt.tolist() == [False] * asked + [True] * (160 - asked)
    assert llada.tokenizer.decode(ids[learnt][:12]) == "assistant<|end_header_id|>\n\n"
    assert rollouts.loss_mask.sum() == tokens - asked + 1  # of the response, with the first end of text
    assert rollouts.prompt.shape == rollouts.prompt_mask.shape == (1, 0)
    assert torch.isnan(rollouts.reward).all()
    assert math.isnan(rollouts.zero_variance_groups)


def test_a_long_row_is_cut(llada, corpus):
    task = corpus(ROW | {"attempt": "2" * 500})
    rollouts = as_sequences(llada, task, task.splits()["train"], settings(160))
    assert llada.tokenizer.decode(rollouts.response[0]).endswith(
        "</reasoning>\n<answer>" + "2" * 97
    )  # 14 + 13 + 36 before them
    assert rollouts.response.shape == (1, 160)


def test_the_loss_by_hand(llada, corpus):
    """A model without an opinion: each masked token costs log(V − 1), over rate and learnt tokens of its row."""
    torch.nn.init.zeros_(llada.model.lm_head.weight)
    rows = s1k_rows(6, longest=10)
    task, method = corpus(*rows), Sft(right_share=1.0)
    examples = task.splits()["train"]
    rollouts = method.collect(llada, task, examples, settings(288), Seeds((0,)))
    update_data = method.refresh(llada, rollouts, NoData(), 0, Seeds((1,)))
    masked, learnt = update_data.masked[:, 0], rollouts.learnt.sum(1)
    assert len(set(learnt.tolist())) > 1
    assert not (masked & ~rollouts.learnt).any()
    rate = 1 / (update_data.weight[:, 0] * learnt)
    assert ((rate > FACTS["least_rate"]) & (rate <= 1)).all()
    loss, _ = method.loss(llada, rollouts, NoData(), update_data)
    expected = masked.sum(1) * math.log(len(llada.tokenizer) - 1) / rate / learnt / 6
    assert torch.allclose(loss, expected.float(), rtol=1e-5)


def test_learnt_tokens_are_masked_at_the_rate(llada, corpus):
    task, method = corpus(ROW), Sft(right_share=1.0)
    rollouts = as_sequences(llada, task, task.splits()["train"] * 4000, settings(72))
    update_data = method.refresh(llada, rollouts, NoData(), 0, Seeds((1,)))
    rate = 1 / (update_data.weight[:, 0] * rollouts.learnt.sum(1))
    share = update_data.masked[:, 0].sum(1) / rollouts.learnt.sum(1)
    assert abs(rate.mean() - 0.5) < 0.02
    assert abs((share - rate).mean()) < 0.003


def test_the_rows_are_shuffled_and_kept_back_as_released(corpus):
    rows = s1k_rows(250)
    splits = corpus(*rows).splits()
    random.seed(FACTS["seed"])
    order = list(range(250))
    random.shuffle(order)
    kept_back = int(250 * FACTS["kept_back"])
    found = [example["question"] for split in ("validation", "train") for example in splits[split]]
    assert found == [rows[i]["question"] for i in order]
    assert {split: len(some) for split, some in splits.items()} == {"train": 248, "validation": kept_back, "test": 0}


WRONG = {
    "no column thinking_trajectories": {"question": "q", "attempt": "a"},
    "not a list with a text in it": ROW | {"thinking_trajectories": []},
    "thinking_trajectories is 'Two.'": ROW | {"thinking_trajectories": "Two."},
    "thinking_trajectories is 3, not text": ROW | {"thinking_trajectories": [3]},
    "no column attempt": {"question": "q", "thinking_trajectories": ["t"]},
    "question is 1, not text": ROW | {"question": 1},
}


@pytest.mark.parametrize("said", WRONG)
def test_a_row_in_another_layout_is_named(corpus, said):
    with pytest.raises(ValueError, match=rf"train\.jsonl, row 2 of train: .*{said}"):
        corpus(ROW, WRONG[said]).splits()


def test_parquet_is_read_too(tmp_path):
    import pandas as pd

    pd.DataFrame(s1k_rows(3)).to_parquet(tmp_path / "train.parquet")
    source = {"source": "local", "path": str(tmp_path)}
    splits = load("s1k", {"train_source": source, "validation": 0.0, "seed": 0, "prompt_file": ""}).splits()
    assert sorted(e["question"] for e in splits["train"]) == [row["question"] for row in s1k_rows(3)]


def test_rows_that_cannot_be_learnt_are_refused_before_training(llada, policy, corpus):
    task, method = corpus(ROW), Sft(right_share=1.0)
    examples = task.splits()["train"]
    assert method.usable(llada, task, examples, settings(72)) == examples
    with pytest.raises(InputError, match=r"'1\+1\?' has a prompt of 15 tokens; increase methods.sft.generation_length"):
        method.usable(llada, task, examples, settings(15))
    with pytest.raises(InputError, match="the tokenizer has no token for part of its response"):
        method.usable(policy, task, examples, settings(72))  # a tiny model has no new line


def test_progress_leaves_out_what_is_no_number(capsys):
    Progress("run", 1).show(1, reward=math.nan, loss=2.0)
    assert "reward" not in (said := capsys.readouterr().out)
    assert "loss 2" in said


# --- one run for all tasks --------------------------------------------------------------------------------------------


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


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_a_sequence_has_no_prompt_in_front(papers):
    """1,240 updates of 16 rows of 4,096 tokens, each one pass with gradient and one more for the activations."""
    grid = expand(papers)
    run = grid.runs["sft/s1k/default/seed-0"]
    assert grid.gpus(run.name) == 8  # two rows each
    tokens, adapter = 1240 * 16 * 4096, 335_544_320
    forward, backward = flops_per_token(LLADA_8B.body + adapter, adapter)
    assert training_flops(LLADA_8B, run, 200) == {
        "sampling": 0, "validating": 0, "scoring": 0,
        "updating": tokens * (forward + backward), "recomputing": tokens * forward,
    }  # fmt: skip
    by_hand = training_memory(LLADA_8B, run, grid.cost, 8)["gradient"]
    assert by_hand == training_memory(LLADA_8B, run, grid.cost.model_copy(update={"prompt_tokens": 999}), 8)["gradient"]
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
