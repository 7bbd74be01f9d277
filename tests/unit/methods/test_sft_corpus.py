"""SFT on a corpus: tokens, masks and loss as in the released SFT code of d1.

The facts are those of dllm-reasoning/d1 at 837888f, SFT/sft_trainer.py. Its `preprocess_dataset`, collator and
loss were run on 200 generated rows with the tokenizer of conversations.py, cut to 640 and to 320 tokens: token ids,
prompt lengths and the order of the rows were equal, and the loss of 16 rows to 1e-6 (5.0659 at 640 tokens, 5.8605 at
320; both without the logit of [MASK], which the released loss has: 5.0686 and 5.8640).
"""

import math
import random

import pytest
import torch

from helpers.conversations import llada_tokenizer, s1k_rows, write_rows
from unmask.common.errors import InputError
from unmask.common.progress import Progress
from unmask.common.seeding import Seeds
from unmask.config.schema.samplers import RandomOrder
from unmask.methods.sft import Sft
from unmask.models.policy import Policy
from unmask.models.tiny import build_model
from unmask.rl.buffer_data import NoData
from unmask.rl.rollouts import RolloutSettings
from unmask.rl.sequences import as_sequences
from unmask.samplers.settings import DecodingSettings
from unmask.tasks import load

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
