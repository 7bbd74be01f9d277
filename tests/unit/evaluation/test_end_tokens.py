"""The tokens that end a response, taken from the tokenizer, are ends for rewards, grades and published scores alike."""

import json

import pytest
import torch

from helpers.published_checkpoints import change_json, write_checkpoint
from unmask import tasks
from unmask.evaluation.evaluate import _graded
from unmask.models.policy import Policy
from unmask.samplers.completions import Completions

# The form of Dream's: each turn is closed, and a line break follows.
CHATML = (
    "{% for m in messages %}<|user|>{{ m['role'] }}\n{{ m['content'] }}{{ close }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|bot|>{% endif %}"
)
PERFECT = "\nwork\n</reasoning>\n<answer>\n18\n</answer>"
GSM8K = {"prompt_file": "", "train_source": {}, "test_source": {}, "validation": 0, "seed": 0,
         "rewards": "corrected"}  # fmt: skip
EXAMPLE = {"question": "?", "answer": "18", "difficulty": 1}


@pytest.fixture
def policy(tmp_path):
    """Makes a policy of a checkpoint in a published layout whose turns are closed by a token of this name."""

    def make(kind, closing):
        write_checkpoint(tmp_path, kind)
        change_json(tmp_path / "tokenizer_config.json", chat_template=CHATML.replace("{{ close }}", closing))
        if kind == "llada":
            file, place = tmp_path / "tokenizer.json", 63
            values = json.loads(file.read_text())
            values["added_tokens"].append(values["added_tokens"][-1] | {"id": place, "content": closing})
            values["model"]["vocab"][closing] = place
            file.write_text(json.dumps(values))
        else:
            known = json.loads((tmp_path / "tokenizer_config.json").read_text())["added_tokens_decoder"]
            known["63"] = known["62"] | {"content": closing}
            change_json(tmp_path / "tokenizer_config.json", added_tokens_decoder=known)
        return Policy.load(tmp_path, device="cpu")

    return make


@pytest.fixture
def gsm8k():
    return tasks.load("gsm8k", GSM8K)


@pytest.mark.parametrize("kind", ["llada", "dream"])
@pytest.mark.parametrize("closing", ["<|eot_id|>", "<|im_end|>", "<end_of_turn>"])
def test_a_perfect_answer_earns_all_whatever_closes_its_turn(kind, closing, policy, gsm8k):
    one = policy(kind, closing)
    assert one.end_tokens == {"<|endoftext|>", closing}
    text = PERFECT + closing + "<|endoftext|>"
    (judged,) = one.judged([text])
    assert (judged == text) == (closing != "<end_of_turn>")
    assert tasks.total_reward(gsm8k, judged, EXAMPLE) == 4.0
    grade = tasks.grade_response(gsm8k, judged, EXAMPLE)
    assert (grade.strict, grade.published) == (1.0, 1.0)


@pytest.mark.parametrize("closing", ["<|eot_id|>", "<|im_end|>", "<|endoftext|>"])
def test_the_published_families_ends_need_no_tokenizer(closing, gsm8k):
    assert tasks.total_reward(gsm8k, PERFECT + closing + "more", EXAMPLE) == 4.0


@pytest.mark.parametrize("kind", ["llada", "dream"])
def test_a_template_that_closes_no_turn_leaves_the_end_of_text(kind, tmp_path):
    write_checkpoint(tmp_path, kind)
    assert Policy.load(tmp_path, device="cpu").end_tokens == {"<|endoftext|>"}


def test_the_stored_completion_is_what_the_model_wrote(policy, gsm8k):
    one, text = policy("dream", "<end_of_turn>"), PERFECT + "<end_of_turn>"
    made = Completions.given(torch.full((1, 4), one.eot))
    (row,) = _graded(one, gsm8k, [EXAMPLE], made, [text])
    assert row["completion"] == text
    assert row["strict"] == 1.0
