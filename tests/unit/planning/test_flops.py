"""The parameters and operations that `plan` reckons, against real models, trainings and hand-computed values."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.cost_fixtures import ALL, DUAL, PREFIX, TINY, TOP1, run_of, tiny_policy
from helpers.published_checkpoints import kinds, write_checkpoint
from helpers.streams import streams
from unmask import methods
from unmask.config.grid.expand import expand
from unmask.config.schema.samplers import Threshold, TopK
from unmask.config.schema.scales import Hardware
from unmask.models.checkpoint_formats import Layout
from unmask.models.shapes import DREAM_7B, LLADA_8B, QWEN2_05B, QWEN3_06B, TINY_VOCABULARY, flops_per_token, shape_of
from unmask.models.tiny import build_tokenizer
from unmask.planning.flops import decoded_tokens, evaluation_flops, forward_passes, hours, training_flops
from unmask.planning.memory import training_memory
from unmask.training.trainer import Trainer

# --- parameters -------------------------------------------------------------------------------------------------------


@kinds
def test_parameters_are_those_of_a_checkpoint_of_each_layout(tmp_path, kind):
    write_checkpoint(tmp_path, kind)  # 4 heads, 2 key-value heads; Dream and Qwen2 with biases, both Qwens tied
    model = Layout.read(tmp_path).empty_model()
    local = model_spec("local", path=str(tmp_path))
    shape = shape_of(local, Path("not there"))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    outside = {model.lm_head.weight, model.model.embed_tokens.weight}
    assert shape.body == shape.parameters - sum(p.numel() for p in outside)
    assert shape_of(model_spec("hub", repository="who/what", revision="0" * 40), tmp_path) == shape
    assert shape_of(model_spec("hub", repository="who/what", revision="0" * 40), Path("not there")) is None


def model_spec(source, **settings):
    from unmask.config.schema.models import base_model_from
    from unmask.config.specs import ModelSpec

    return ModelSpec("mine", source, base_model_from({"source": source} | settings))


def test_parameters_of_the_published_models():
    """Counted from the models themselves in tests/unit/models/test_published_forward.py."""
    assert LLADA_8B.parameters == 8_015_581_184
    assert DREAM_7B.parameters == 7_615_616_512
    assert QWEN3_06B.parameters == 596_049_920
    assert QWEN2_05B.parameters == 494_032_768
    assert shape_of(model_spec("hub", repository="GSAI-ML/LLaDA-1.5", revision="0" * 40), Path("not there")) is LLADA_8B


def test_parameters_of_a_model_made_here_and_of_its_adapter(grid):
    run = next(run for run in grid.runs.values() if run.trains)
    shape = shape_of(grid.models[run.model], Path("not there"))
    assert len(build_tokenizer()) == TINY_VOCABULARY == shape.vocabulary
    policy = tiny_policy(shape)
    assert shape.parameters == sum(p.numel() for p in policy.model.parameters())
    targets = ["k_proj", "o_proj", "down_proj"]
    policy.make_trainable(rank=3, alpha=6, dropout=0.0, targets=targets, seed=0)
    assert shape.adapter(3, targets) == sum(p.numel() for p in policy.trainable().values())


def test_the_adapter_of_the_8b_model():
    """32 layers of 4 matrices of 4096 × 4096 and 3 of 4096 × 12288, at rank 128."""
    assert LLADA_8B.adapter(128, ALL) == 32 * 128 * (4 * (4096 + 4096) + 3 * (4096 + 12288)) == 335_544_320


# --- operations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "tokens"),
    [
        (TOP1, 16 * (5 + 16)),
        (TOP1.model_copy(update={"tokens_per_step": 3}), 2 * 3 * (5 + 16)),  # 3, 3 and 2 tokens of each block of 8
        (TOP1.model_copy(update={"guidance": 1.0}), 2 * 16 * (5 + 16)),
        (DUAL, 2 * (5 + 16) + 2 * 7 * 8),
        (PREFIX, 2 * (5 + 16) + 7 * 16 + 7 * 8),
        (Threshold(confidence=0.9), 16 * (5 + 16)),
    ],
)
def test_tokens_of_a_response_by_hand(sampler, tokens):
    assert decoded_tokens(sampler, prompt=5, length=16, block=8) == tokens


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_tokens_of_a_response_are_those_that_are_decoded(cache):
    from unmask.samplers.decode import decode
    from unmask.samplers.settings import DecodingSettings

    model = tiny_policy().model
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    prompt = torch.arange(2, 9)[None]
    sampler = TopK(tokens_per_step=2, score="confidence", cache=cache, forbidden=[1])
    settings = DecodingSettings(16, 8, sampler, temperature=0.0)
    made = decode(model, prompt, prompt > 0, settings, eot=1, streams=streams(1))
    assert sum(seen) == decoded_tokens(sampler, 7, 16, 8)
    assert made.nfe.item() == forward_passes(sampler, 16, 8)


METHODS = {
    "sft": ("sft", {}),
    "diffu_grpo": ("diffu_grpo", {}),
    "diffu_grpo without masks": ("diffu_grpo", {"prompt_mask": 0.0}),
    "coupled_grpo": ("coupled_grpo", {}),
    "diffpo": ("diffpo", {}),
    "diffpo, mean field": ("diffpo", {"surrogate": "mean_field"}),
    "espo": ("espo", {}),
    "espo without a penalty": ("espo", {"kl_penalty": 0.0}),
    "wd1": ("wd1", {}),
    "gdpo": ("gdpo", {}),
    "gdpo with a penalty": ("gdpo", {"kl_penalty": 0.1, "nodes": 2}),
    "spg": ("spg", {}),
    "spg, one uniform copy": ("spg", {"masks": "uniform", "copies": 1}),
    "stable_drl": ("stable_drl", {}),
    "gdsd": ("gdsd", {}),
    "gdsd without a penalty": ("gdsd", {"kl_penalty": 0.0, "fit": "pair"}),
    "dmpo": ("dmpo", {}),
    "dmpo, wddo": ("dmpo", {"loss_kind": "wddo"}),
    "dmpo, model baseline": ("dmpo", {"baseline": "model"}),
    "dmpo, reward only": ("dmpo", {"loss_kind": "reward_only"}),
    "dmpo, no likelihoods": ("dmpo", {"alpha": 0.0}),
    "dmpo, trajectory": ("dmpo", {"likelihood": "trajectory"}),
}


@pytest.mark.parametrize("case", METHODS)
def test_operations_of_a_training_are_those_that_it_counts(config, sudoku, tmp_path, case):
    """Prompts of one length, and no response ends early."""
    method, changes = METHODS[case]
    for sampler in ("top1", "top2"):  # GDSD has the first, and keeps it
        config["samplers"][sampler]["forbidden"] = [1]
    _, run = run_of(config, method, buffers=2, micro_batch_size=3, lora_dropout=0.0, validate_every=0, sampler="top2")
    run = replace(run, method_settings=run.method_settings | changes)
    policy, examples = tiny_policy(), sudoku.splits()["train"]
    objective = methods.load(run.algorithm, run.method_settings)
    metrics = Trainer(run, policy, objective, sudoku, examples, tmp_path, "").train()
    (prompt,) = {len(policy.prompt_ids(sudoku.messages(e), sudoku.prefill)) for e in examples}
    estimated = training_flops(TINY, run, prompt)
    assert estimated["recomputing"] == 0
    assert metrics[-1]["flops"] == sum(estimated.values())


def test_recomputing_is_one_more_forward_pass(config):
    _, run = run_of(config, lora_rank=2)
    flops = training_flops(TINY, run, 20, checkpointing=True)
    adapter = TINY.adapter(2, ALL)
    forward, backward = flops_per_token(TINY.body + adapter, adapter)
    assert (forward, backward) == (2 * (TINY.body + adapter), 2 * (TINY.body + adapter) + 2 * adapter)
    assert flops["recomputing"] * (forward + backward) == flops["updating"] * forward


@pytest.mark.parametrize(("every", "looks"), [(0, 0), (1, 5), (2, 3), (9, 1)])
def test_a_training_looks_at_the_validation_split_and_at_its_end(config, every, looks):
    _, run = run_of(config, buffers=5, validate_every=every)
    tokens = decoded_tokens(run.sampler, 20, 24, 8)
    forward = 2 * (TINY.body + TINY.adapter(run.training.lora_rank, ALL))
    assert training_flops(TINY, run, 20)["validating"] == looks * 8 * tokens * forward
    best = training_memory(TINY, run, expand(config).cost)["gradient"]["best"]
    assert best == (every > 0) * 4 * TINY.adapter(run.training.lora_rank, ALL)


def test_operations_of_an_evaluation_by_hand(grid):
    evaluation = replace(grid.evaluations["papers"], samplers={"one": TOP1}, lengths=[8, 16], block_length=8)
    base = grid.runs["base/sudoku/default/seed-0"]
    tokens = 8 * (20 + 8) + 16 * (20 + 16)
    assert evaluation_flops(TINY, base, evaluation, prompt=20, examples=5) == 5 * tokens * 2 * TINY.body
    trained = grid.runs["dmpo/sudoku/default/seed-0"]
    adapter = TINY.adapter(trained.training.lora_rank, ALL)
    assert evaluation_flops(TINY, trained, evaluation, 20, 5) == 5 * tokens * 2 * (TINY.body + adapter)


def test_hours_at_the_assumed_throughput():
    cost = Hardware(peak_tflops=100, training_utilisation=0.5, decoding_utilisation=0.25, prompt_tokens=1)
    assert hours({"sampling": 25e12 * 3600, "updating": 50e12 * 3600, "recomputing": 100e12 * 3600}, cost) == 4


def test_cost_decides_no_spec(config):
    before = {name: spec.digest for name, spec in expand(config).specs.items()}
    config["scales"]["smoke"]["cost"] = config["scales"]["llada-8b"]["cost"]
    assert {name: spec.digest for name, spec in expand(config).specs.items()} == before


def test_passes_through_a_held_adapter_are_counted(config):
    """An adapter on top of another one: both are in each forward pass, and both are held and saved."""
    one = {}
    for merge_start in (False, True):
        config["methods"]["d1"]["merge_start"] = merge_start
        grid = expand(config)
        run = grid.runs["d1/sudoku/default/seed-0"]
        evaluation = grid.evaluations["papers"]
        one[merge_start] = (
            training_flops(TINY, run, 5)["scoring"], evaluation_flops(TINY, run, evaluation, 5, 1),
            training_memory(TINY, run, grid.cost)["gradient"]["adapter"],
        )  # fmt: skip
    adapter = TINY.adapter(run.training.lora_rank, run.training.lora_targets)
    scored, evaluated, held = (after / before for before, after in zip(one[False], one[True], strict=True))
    assert scored == evaluated == pytest.approx((TINY.body + 2 * adapter) / (TINY.body + adapter))
    assert held == 2
