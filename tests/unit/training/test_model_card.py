"""The model card says what an adapter was made of, and an adapter with a card is still one for PEFT."""

import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from helpers.paths import DATA
from unmask.common.checksums import sha256
from unmask.config.schema.models import ScratchModel, base_model_from
from unmask.config.schema.samplers import TopK
from unmask.config.schema.training import Training
from unmask.config.specs import ModelSpec, RunSpec
from unmask.methods.sft import Sft
from unmask.training.model_card import model_card

GOLDEN = DATA / "golden_card.md"
RUN = RunSpec(
    name="d1/gsm8k/default/seed-0",
    method="d1",
    algorithm="diffu_grpo",
    start_from="sft/gsm8k/default/seed-0",
    task="gsm8k",
    variant="default",
    seed=0,
    model="llada-8b-instruct",
    training=Training.model_construct(lora_rank=128, temperature=0.9, merge_start=False),
    method_settings={"clip": 0.5},
    task_settings={"rewards": "corrected"},
    sampler=TopK(tokens_per_step=2, score="confidence"),
    block_length=32,
)


def base_model(name, **settings):
    return ModelSpec(name, settings["source"], base_model_from(settings))


HUB = base_model("llada-8b-instruct", source="hub", repository="GSAI-ML/LLaDA-8B-Instruct", revision="c" * 40)
SCRATCH = ScratchModel.model_construct(source="scratch", pretraining={"sudoku": {}})
METRICS = [
    {"step": 1, "reward": 0.5, "accuracy": 0.25, "skipped": 1, "validation": 0.625, "seconds": 1.0},
    {"step": 2, "reward": 1.23456, "accuracy": 0.5, "skipped": 0, "validation": None, "entropy": 0.75, "seconds": 2.0},
]


def test_the_text():
    assert model_card(RUN, HUB, METRICS, "a" * 64, "llada-8b", "corrected") == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("base", "named", "said"),
    [
        (None, "llada-8b-instruct", "| Base model | `llada-8b-instruct` |"),
        (base_model("mine", source="local", path="/home/me/mine"), "llada-8b-instruct", "a local checkpoint, digest"),
        (ModelSpec("tiny", "scratch", SCRATCH, "sudoku"), "llada-8b-instruct", "made by this workflow, digest"),
        (HUB, "GSAI-ML/LLaDA-8B-Instruct", f"`GSAI-ML/LLaDA-8B-Instruct` at revision `{'c' * 40}`"),
    ],
)
def test_a_base_model_of_each_source(base, named, said):
    text = model_card(RUN, base, METRICS[:1], "a" * 64, "s", "corrected")
    assert ModelCard(text).data.to_dict() == {
        "library_name": "peft",
        "base_model": named,
        "tags": ["masked-diffusion", "diffu_grpo"],
    }
    assert said in text
    assert "/home" not in text
    assert ("made by the same code" in text) == (base is not None and base.source == "scratch")


def test_a_training_of_every_weight_and_a_method_without_a_citation(monkeypatch):
    monkeypatch.setattr(Sft, "citation", "")
    every_weight = RUN.training.model_copy(update={"lora_rank": 0})
    run = replace(RUN, algorithm="sft", method="sft", start_from=None, training=every_weight)
    text = model_card(run, HUB, [{"step": 1, "reward": float("nan")}], "a" * 64, "s", "corrected")
    assert ModelCard(text).data.library_name is None
    assert "See `src/unmask/methods/sft.py`." in text
    assert "| mean reward of a response | nan |" in text
    assert "Validation: not measured in this training." in text


def test_an_adapter_with_its_card(job, finish, policy):
    from peft import PeftModel

    out, process = job("run")
    finish(process)
    text = (out / "adapter" / "README.md").read_text(encoding="utf-8")
    assert ModelCard(text).data.base_model == "smoke/sudoku/seed-0"
    assert "24 updates, 0 of them skipped" in text
    assert sha256(out.parent / "train.parquet") in text
    assert json.loads((out / "manifest.json").read_text())["outputs"]["adapter"] == sha256(out / "adapter/SHA256SUMS")
    assert PeftModel.from_pretrained(policy.model, out / "adapter").peft_config["default"].r == 4
