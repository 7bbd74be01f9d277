"""What `plan` reckons: parameters, operations and memory, against real models, trainings and hand-computed values."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from published_checkpoints import write_checkpoint

from unmask import methods
from unmask.at_once import CPU_LOGITS, GPU_LOGITS, rows_at_once
from unmask.config.scales import Cost
from unmask.config.training import Training
from unmask.costs import (
    decoded_tokens,
    evaluation_flops,
    flops_a_token,
    forward_passes,
    hours,
    passes_of,
    training_flops,
)
from unmask.fitting import misfits
from unmask.grid import expand
from unmask.memory import (
    activations,
    evaluation_memory,
    head,
    kept_by_layer,
    total,
    training_memory,
)
from unmask.models.layouts import Layout
from unmask.models.policy import Policy
from unmask.models.shapes import DREAM_7B, LLADA_8B, TINY_VOCABULARY, Shape, shape_of
from unmask.models.tiny import build_model, build_tokenizer
from unmask.trainer import Trainer

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TINY = Shape(hidden=64, layers=6, heads=2, kv_heads=2, mlp=96, vocabulary=55)
TOP1, DUAL, PREFIX = (
    {"rule": "top_k", "tokens_per_step": 1, "cache": cache, "guidance": 0.0} for cache in ("none", "dual", "prefix")
)


def run_of(config, method="dmpo", scale="smoke", **training):
    config["scale"] = scale
    config["experiments"]["main"]["methods"] = [method]
    config["scales"][scale]["training"] |= training
    grid = expand(config)
    return grid, grid.runs[f"{method}/sudoku/default/seed-0"]


def tiny_policy(shape=TINY, dtype=torch.float32):
    sizes = {"hidden_size": shape.hidden, "layers": shape.layers, "heads": shape.heads, "mlp_size": shape.mlp}
    tokenizer = build_tokenizer()
    model = build_model(**sizes, rope_theta=1e4, vocabulary=len(tokenizer), seed=0)
    return Policy(model.to(dtype).eval().requires_grad_(False), tokenizer)


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llada", "dream"])
def test_parameters_are_those_of_a_checkpoint_of_each_layout(tmp_path, kind):
    write_checkpoint(tmp_path, kind)  # 4 heads, 2 key-value heads; Dream with biases
    model = Layout.read(tmp_path).empty_model()
    local = model_spec("local", path=str(tmp_path))
    shape = shape_of(local, Path("not there"))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    assert shape.body == shape.parameters - 2 * model.lm_head.weight.numel()
    assert shape_of(model_spec("hub", repository="who/what"), tmp_path) == shape
    assert shape_of(model_spec("hub", repository="who/what"), Path("not there")) is None


def model_spec(source, **settings):
    from unmask.spec import ModelSpec

    return ModelSpec("mine", source, settings)


def test_parameters_of_the_published_models():
    """Counted from the models themselves in tests/test_published_checkpoints.py."""
    assert LLADA_8B.parameters == 8_015_581_184
    assert DREAM_7B.parameters == 7_615_616_512
    assert shape_of(model_spec("hub", repository="GSAI-ML/LLaDA-1.5"), Path("not there")) is LLADA_8B


def test_parameters_of_a_model_made_here_and_of_its_adapter(grid):
    run = next(iter(grid.runs.values()))
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
        (TOP1 | {"tokens_per_step": 3}, 2 * 3 * (5 + 16)),  # 3, 3 and 2 tokens of each block of 8
        (TOP1 | {"guidance": 1.0}, 2 * 16 * (5 + 16)),
        (DUAL, 2 * (5 + 16) + 2 * 7 * 8),
        (PREFIX, 2 * (5 + 16) + 7 * 16 + 7 * 8),
        ({"rule": "threshold", "confidence": 0.9, "cache": "none", "guidance": 0.0}, 16 * (5 + 16)),
    ],
)
def test_tokens_of_a_response_by_hand(sampler, tokens):
    assert decoded_tokens(sampler, prompt=5, length=16, block=8) == tokens


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
def test_tokens_of_a_response_are_those_that_are_decoded(cache):
    from unmask.samplers.decode import decode

    model = tiny_policy().model
    seen = []
    model.get_input_embeddings().register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].numel()))
    made = decode(model, torch.arange(2, 9)[None], torch.ones((1, 7), dtype=torch.bool), length=16, block_length=8,
                  sampler={"rule": "top_k", "tokens_per_step": 2, "score": "confidence"}, temperature=0.0, eot=1,
                  generator=torch.Generator(), cache=cache, forbidden=[1])  # fmt: skip
    sampler = TOP1 | {"tokens_per_step": 2, "cache": cache}
    assert sum(seen) == decoded_tokens(sampler, 7, 16, 8)
    assert made.nfe.item() == forward_passes(sampler, 16, 8)


METHODS = {
    "sft": ("sft", {}),
    "diffu_grpo": ("diffu_grpo", {}),
    "diffu_grpo without masks": ("diffu_grpo", {"prompt_mask": 0.0}),
    "coupled_grpo": ("coupled_grpo", {}),
    "diffpo": ("diffpo", {}),
    "diffpo, mean field": ("diffpo", {"surrogate": "mean_field"}),
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
    config["samplers"]["top2"]["forbidden"] = [1]
    _, run = run_of(config, method, buffers=2, rows_per_forward=3, lora_dropout=0.0, validate_every=0, sampler="top2")
    run = replace(run, method_settings=run.method_settings | changes)
    policy, examples = tiny_policy(), sudoku.splits()["train"]
    objective = methods.load(run.algorithm, run.method_settings)
    metrics = Trainer(run, policy, objective, sudoku, examples, tmp_path, "").train()
    (prompt,) = {len(policy.prompt_ids(sudoku.messages(e), sudoku.prefill)) for e in examples}
    reckoned = training_flops(TINY, run, prompt)
    assert reckoned["recomputing"] == 0
    assert metrics[-1]["flops"] == sum(reckoned.values())


def test_recomputing_is_one_more_forward_pass(config):
    _, run = run_of(config, lora_rank=2, activation_checkpointing=True)
    flops = training_flops(TINY, run, 20)
    adapter = TINY.adapter(2, ALL)
    forward, backward = flops_a_token(TINY.body + adapter, adapter)
    assert (forward, backward) == (2 * (TINY.body + adapter), 2 * (TINY.body + adapter) + 2 * adapter)
    assert flops["recomputing"] * (forward + backward) == flops["updating"] * forward


@pytest.mark.parametrize(("every", "looks"), [(0, 0), (1, 5), (2, 3), (9, 1)])
def test_a_training_looks_at_the_validation_split_and_at_its_end(config, every, looks):
    _, run = run_of(config, buffers=5, validate_every=every)
    tokens = decoded_tokens(run.sampler, 20, 24, 8)
    forward = 2 * (TINY.body + TINY.adapter(run.training["lora_rank"], ALL))
    assert training_flops(TINY, run, 20)["validating"] == looks * 8 * tokens * forward
    best = training_memory(TINY, run, expand(config).cost)["gradient"]["best"]
    assert best == (every > 0) * 4 * TINY.adapter(run.training["lora_rank"], ALL)


def test_operations_of_an_evaluation_by_hand(grid):
    evaluation = replace(grid.evaluations["papers"], samplers={"one": TOP1}, lengths=[8, 16], block_length=8)
    base = grid.runs["base/sudoku/default/seed-0"]
    tokens = 8 * (20 + 8) + 16 * (20 + 16)
    assert evaluation_flops(TINY, base, evaluation, prompt=20, examples=5) == 5 * tokens * 2 * TINY.body
    trained = grid.runs["dmpo/sudoku/default/seed-0"]
    adapter = TINY.adapter(trained.training["lora_rank"], ALL)
    assert evaluation_flops(TINY, trained, evaluation, 20, 5) == 5 * tokens * 2 * (TINY.body + adapter)


def test_hours_at_the_assumed_throughput():
    cost = Cost(peak_tflops=100, training_utilisation=0.5, decoding_utilisation=0.25, prompt_tokens=1)
    assert hours({"sampling": 25e12 * 3600, "updating": 50e12 * 3600, "recomputing": 100e12 * 3600}, cost) == 4


def test_a_method_that_is_not_known_is_its_copies(config):
    _, run = run_of(config)
    passes = passes_of(replace(run, algorithm="mine", method_settings={"copies": 6}))
    assert (passes.update, passes.copies, passes.prepare) == (6, 6, 0)


# --- memory -----------------------------------------------------------------------------------------------------------


def settings(config, **training):
    return Training(**run_of(config, **training)[1].training)


@pytest.mark.parametrize(
    ("targets", "dropout", "always", "asked"),
    [
        ([], 0.0, 4 * 4096 + 2 * 2 * 4096, 2 * 2 * 4096 + 4 * 32 + 4 * 4096 + 3 * 2 * 12288),
        (ALL, 0.0, 32768 + 2 * (4 * 4096 + 512), 106624 + 4 * 4 * 4096 + 4 * 12288 + 5 * 512),
        (ALL, 0.05, 32768 + 2 * (5 * 4096 + 512), 106624 + 4 * 5 * 4096 + 5 * 12288 + 5 * 512),
        (["down_proj"], 0.05, 32768, 106624 + 5 * 12288 + 512),
    ],
)
def test_what_a_layer_keeps_by_hand(config, targets, dropout, always, asked):
    """LLaDA-8B in bfloat16, rank 128, bytes a token."""
    training = settings(config, lora_rank=128, lora_dropout=dropout)
    training = training.model_copy(update={"lora_targets": targets})
    assert kept_by_layer(LLADA_8B, training, size=2) == (always, asked)


@pytest.mark.parametrize("rank", [0, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_kept_for_the_gradient_is_what_autograd_keeps(config, rank, dtype, checkpointing):
    """Without dropout, whose mask is larger on a processor; within 5 %: the first norm of a frozen model keeps none."""
    if rank == 0 and dtype == torch.bfloat16:
        pytest.skip("every weight is trained in fp32 only")
    policy = tiny_policy(dtype=dtype)
    policy.make_trainable(rank=rank, alpha=8, dropout=0.0, targets=ALL, seed=0)
    policy.model.train()
    policy.model.activation_checkpointing = checkpointing
    weights = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    rows, prompt, length = 4, 16, 48
    ids = torch.randint(2, 55, (rows, prompt + length))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.model.hidden_states(ids, None, slice(prompt, None)).sum()
    t = settings(config, lora_rank=rank, lora_dropout=0.0, generation_length=length,
                 activation_checkpointing=checkpointing, lora_targets=ALL)  # fmt: skip
    size = dtype.itemsize
    one_layer = rows * ids.shape[1] * sum(kept_by_layer(TINY, t, size)) if checkpointing else 0  # comes later, backward
    reckoned = activations(TINY, t, rows, rows, ids.shape[1], size) - one_layer
    rotations = 0 if checkpointing else 2 * ids.shape[1] * TINY.hidden // TINY.heads * 4  # shared by all layers
    assert sum(size for size, _ in kept.values()) - rotations == pytest.approx(reckoned, rel=0.05)


def test_four_bits_hold_the_8b_model_in_5_7_gb(config):
    config["scale"] = "llada-8b"
    config["scales"]["llada-8b"]["training"]["quantisation"] = "nf4"
    grid = expand(config)
    parts = training_memory(LLADA_8B, grid.runs["dmpo/gsm8k/default/seed-0"], grid.cost)["gradient"]
    layers = 8_015_581_184 - 2 * 126_464 * 4096 - (2 * 32 + 1) * 4096  # without embedding, head and norms
    assert parts["weights"] == layers * (0.5 + 1 / 64 + 1 / 4096) + 2 * (8_015_581_184 - layers)
    assert round(parts["weights"] / 1e9, 1) == 5.7


def test_parts_of_the_8b_model_by_hand(config):
    """DMPO in bfloat16, 16 sequences at once: one masked copy of each of 16 responses, or four of each of four."""
    grid, run = run_of(config, scale="llada-8b", rows_per_forward=16, activation_checkpointing=True)
    parts = training_memory(LLADA_8B, run, grid.cost)["gradient"]
    assert parts == training_memory(LLADA_8B, with_rows(run, 4), grid.cost)["gradient"]
    trained, tokens = 335_544_320, 16 * (200 + 256)
    assert parts["weights"] == 2 * 8_015_581_184
    assert (parts["adapter"], parts["reference"], parts["gradients"], parts["moments"]) == (
        4 * trained, 4 * trained, 4 * trained, 8 * trained,
    )  # fmt: skip
    layer = 32768 + 2 * (5 * 4096 + 512) + 106624 + 4 * 5 * 4096 + 5 * 12288 + 5 * 512
    assert parts["activations"] == 32 * tokens * 4096 * 2 + 16 * 256 * 4096 * 4 + tokens * layer
    assert parts["head"] == 2**24 * 10 + 3 * 16 * 256 * 4096 * 2


def with_rows(run, count):
    """The run with so many responses in a buffer."""
    return replace(run, training=run.training | {"prompts_per_buffer": 1, "group_size": count})


def test_the_head_never_makes_full_logits():
    few, many = head(LLADA_8B, 200, size=2), head(LLADA_8B, 20_000, size=2)
    assert many - few == 3 * 19_800 * 4096 * 2  # states only


def test_a_batch_at_laptop_scale_is_one_part_and_one_at_8b_is_not():
    assert rows_at_once("cpu", TINY_VOCABULARY) >= 256 * 4 * 40  # rows, their masked copies, tokens
    assert rows_at_once("cpu", 126_464) == 33
    assert rows_at_once("cuda", 126_464) == 132
    assert rows_at_once("cpu", 2 * CPU_LOGITS) == rows_at_once("cuda", 2 * GPU_LOGITS) == 1


def test_more_rows_need_more_and_checkpointing_less(config):
    needed = {}
    for rows in (1, 2, 8):
        for checkpointing in (False, True):
            grid, run = run_of(config, scale="llada-8b", rows_per_forward=rows, activation_checkpointing=checkpointing)
            needed[rows, checkpointing] = total(training_memory(LLADA_8B, run, grid.cost)["gradient"])
    for checkpointing in (False, True):
        assert needed[1, checkpointing] < needed[2, checkpointing] < needed[8, checkpointing]
    assert all(needed[rows, True] < needed[rows, False] for rows in (1, 2, 8))


def test_a_share_of_the_rows_needs_no_more_than_itself(config):
    grid, run = run_of(config, scale="llada-8b", rows_per_forward=100_000)
    one, eight = (training_memory(LLADA_8B, run, grid.cost, gpus)["gradient"] for gpus in (1, 8))
    assert one["activations"] == 8 * eight["activations"]


def test_a_cache_holds_keys_and_values_of_all_layers(grid):
    base = grid.runs["base/sudoku/default/seed-0"]
    cost = grid.cost.model_copy(update={"prompt_tokens": 20})
    evaluation = replace(grid.evaluations["papers"], samplers={"dual": DUAL}, lengths=[24, 32], rows_per_batch=7)
    parts = evaluation_memory(TINY, base, evaluation, cost)
    assert parts["cache"] == 2 * (2 * TINY.layers * 7 * (20 + 32) * 64 * 4)  # twice: a copy while rows leave
    assert evaluation_memory(TINY, base, replace(evaluation, samplers={"one": TOP1}), cost)["cache"] == 0


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_a_run_that_does_not_fit_names_the_settings_to_change(config):
    grid, run = run_of(config, scale="llada-8b", rows_per_forward=16, activation_checkpointing=False)
    (said,) = misfits(grid, run, LLADA_8B, [grid.evaluations["papers"]])
    assert "GB (gradient) do not fit into the 80 GB of scales.llada-8b.cost.gpu_memory. Set " in said
    assert "scales.llada-8b.training.rows_per_forward: 11 (" in said
    assert ", or scales.llada-8b.training.activation_checkpointing: true (" in said
    for change in ({"rows_per_forward": 11}, {"activation_checkpointing": True}):
        assert not misfits(grid, replace(run, training=run.training | change), LLADA_8B, [])
    assert misfits(grid, replace(run, training=run.training | {"rows_per_forward": 12}), LLADA_8B, [])


def test_where_one_change_is_not_enough_two_are_named(config):
    config["scales"]["llada-8b"]["cost"]["gpu_memory"] = 28
    grid, run = run_of(config, scale="llada-8b", rows_per_forward=16, activation_checkpointing=False)
    (said,) = misfits(grid, run, LLADA_8B, [])
    where = "scales.llada-8b.training"
    assert f". Set {where}.activation_checkpointing: true and {where}.rows_per_forward: 5 (" in said


def test_an_evaluation_that_does_not_fit_names_its_rows(config):
    config["scales"]["llada-8b"]["cost"]["gpu_memory"] = 24
    grid, base = run_of(config, "base", scale="llada-8b")
    papers = grid.evaluations["papers"]
    (said,) = misfits(grid, base, LLADA_8B, [papers])
    rows = int(said.partition("evaluations.papers.rows_per_batch: ")[2].split()[0])
    assert not misfits(grid, base, LLADA_8B, [replace(papers, rows_per_batch=rows)])
    assert misfits(grid, base, LLADA_8B, [replace(papers, rows_per_batch=rows + 1)])


def test_a_model_too_large_for_the_gpu_has_no_way_out(config):
    config["scales"]["llada-8b"]["cost"]["gpu_memory"] = 12
    grid, run = run_of(config, scale="llada-8b")
    (said,) = misfits(grid, run, LLADA_8B, [])
    assert said.endswith(": it takes a GPU with more, or a smaller model.")


def test_without_a_gpu_there_is_no_limit(config):
    grid, run = run_of(config, scale="laptop")
    assert misfits(grid, run, LLADA_8B, [grid.evaluations["papers"]]) == []


def test_the_settings_as_they_are_fit(config):
    config["scale"] = "llada-8b"
    grid = expand(config)
    for run in grid.runs.values():
        assert misfits(grid, run, LLADA_8B, list(grid.evaluations.values())) == [], run.name


def test_cost_decides_no_spec(config):
    before = {name: spec.digest for name, spec in expand(config).specs.items()}
    config["scales"]["smoke"]["cost"] = config["scales"]["llada-8b"]["cost"]
    assert {name: spec.digest for name, spec in expand(config).specs.items()} == before
