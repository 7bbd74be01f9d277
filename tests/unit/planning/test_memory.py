"""The memory that `plan` reckons: by hand, against what autograd keeps, and what is said where it does not fit."""

import re
from dataclasses import replace

import pytest
import torch

from helpers.cost_fixtures import ALL, DUAL, QWEN3, TINY, TOP1, run_of, tiny_policy
from unmask.config.grid.expand import expand
from unmask.models.logit_chunks import CPU_LOGITS, GPU_LOGITS, logit_chunk_rows
from unmask.models.shapes import LLADA_8B, TINY_VOCABULARY
from unmask.planning.gradient_memory import activations, casts, head, kept_by_layer
from unmask.planning.memory import evaluation_memory, total, training_memory
from unmask.planning.memory_fit import memory_by_phase, misfits

STORED = {"activation_checkpointing": False}


def settings(config, **training):
    return run_of(config, **training)[1].training


@pytest.mark.parametrize(
    ("targets", "dropout", "always", "asked"),
    [
        ([], 0.0, 4 * 4096 + 2 * 2 * 4096, 2 * 2 * 4096 + 4 * 32 + 4 * 4096 + 3 * 2 * 12288),
        (ALL, 0.0, 32768 + 2 * 4096 + 2 * 256, 106624 + 2 * 4096 + 2 * 12288 + 5 * 256),
        (ALL, 0.05, 32768 + 2 * (3 * 4096 + 256), 106624 + 4 * 3 * 4096 + 3 * 12288 + 5 * 256),
        (["down_proj"], 0.05, 32768, 106624 + 3 * 12288 + 256),
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
@pytest.mark.parametrize("shape", [TINY, QWEN3], ids=["llada", "qwen3"])
def test_what_is_kept_for_the_gradient_is_what_autograd_keeps(config, shape, rank, dtype, checkpointing):
    """Without dropout, whose mask is larger on a processor; within 5 %: the first norm of a frozen model keeps none."""
    if rank == 0 and dtype == torch.bfloat16:
        pytest.skip("every weight is trained in fp32 only")
    policy = tiny_policy(shape, dtype)
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
    t = settings(config, lora_rank=rank, lora_dropout=0.0, generation_length=length, lora_targets=ALL)
    size = dtype.itemsize
    one_layer = 0
    if checkpointing:  # comes later, backward
        one_layer = rows * ids.shape[1] * sum(kept_by_layer(shape, t, size))
    estimated = activations(shape, t, rows, rows, ids.shape[1], size, checkpointing) - one_layer
    estimated += 0 if checkpointing else casts(shape, t, 1, size, checkpointing)
    rotations = 0 if checkpointing else 2 * ids.shape[1] * shape.query_width // shape.heads * 4  # shared by all layers
    assert sum(size for size, _ in kept.values()) - rotations == pytest.approx(estimated, rel=0.05)


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
    grid, run = run_of(config, scale="llada-8b", micro_batch_size=16)
    parts = training_memory(LLADA_8B, run, grid.cost, checkpointing=True)["gradient"]
    assert parts == training_memory(LLADA_8B, with_rows(run, 4), grid.cost, checkpointing=True)["gradient"]
    trained, tokens = 335_544_320, 16 * (200 + 256)
    assert parts["weights"] == 2 * 8_015_581_184
    assert (parts["adapter"], parts["reference"], parts["gradients"], parts["moments"]) == (
        4 * trained, 4 * trained, 4 * trained, 8 * trained,
    )  # fmt: skip
    layer = 32768 + 2 * (3 * 4096 + 256) + 106624 + 4 * 3 * 4096 + 3 * 12288 + 5 * 256
    assert parts["activations"] == 32 * tokens * 4096 * 2 + 16 * 256 * 4096 * 4 + tokens * layer
    assert parts["casts"] == 2 * trained // 32  # of one layer
    assert parts["head"] == 2**24 * 10 + 3 * 16 * 256 * 4096 * 2


def with_rows(run, count):
    """The run with so many responses in a buffer."""
    return replace(run, training=run.training.model_copy(update={"prompts_per_buffer": 1, "group_size": count}))


def test_the_head_never_makes_full_logits():
    few, many = head(LLADA_8B, 200, size=2), head(LLADA_8B, 20_000, size=2)
    assert many - few == 3 * 19_800 * 4096 * 2  # states only


def test_without_blocks_the_head_sees_the_whole_response_and_no_prompt(config):
    grid, run = run_of(config, scale="llada-8b")  # 16 responses at once, of 256 tokens
    papers = grid.evaluations["papers"]
    for sampler, trained, longest in ((TOP1, 32, 32), (TOP1.model_copy(update={"blocks": False}), 256, 512)):
        rollouts = training_memory(LLADA_8B, replace(run, sampler=sampler), grid.cost)["rollouts"]
        assert rollouts["head"] == head(LLADA_8B, 16 * trained, size=2)
        samples = evaluation_memory(LLADA_8B, run, replace(papers, samplers={"one": sampler}), grid.cost)
        assert samples["head"] == head(LLADA_8B, 128 * longest, size=2)


def test_a_batch_at_laptop_scale_is_one_part_and_one_at_8b_is_not():
    assert logit_chunk_rows("cpu", TINY_VOCABULARY) >= 256 * 4 * 40  # rows, their masked copies, tokens
    assert logit_chunk_rows("cpu", 126_464) == 33
    assert logit_chunk_rows("cuda", 126_464) == 132
    assert logit_chunk_rows("cpu", 2 * CPU_LOGITS) == logit_chunk_rows("cuda", 2 * GPU_LOGITS) == 1


def test_more_rows_need_more_and_checkpointing_less(config):
    needed = {}
    for rows in (1, 2, 8):
        for checkpointing in (False, True):
            grid, run = run_of(config, scale="llada-8b", micro_batch_size=rows)
            parts = training_memory(LLADA_8B, run, grid.cost, checkpointing=checkpointing)["gradient"]
            needed[rows, checkpointing] = total(parts)
    for checkpointing in (False, True):
        assert needed[1, checkpointing] < needed[2, checkpointing] < needed[8, checkpointing]
    assert all(needed[rows, True] < needed[rows, False] for rows in (1, 2, 8))


def test_a_share_of_the_rows_needs_no_more_than_itself(config):
    grid, run = run_of(config, scale="llada-8b", micro_batch_size=100_000)
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
    grid, run = run_of(config, scale="llada-8b", runtime=STORED, micro_batch_size=16)
    (said,) = misfits(grid, run, LLADA_8B, [grid.evaluations["papers"]])
    assert "GB (gradient) do not fit into the 80 GB of scales.llada-8b.cost.gpu_memory. Set " in said
    assert "scales.llada-8b.methods.dmpo.micro_batch_size: 14 (" in said
    assert ", or scales.llada-8b.runtime.activation_checkpointing: true (" in said
    few, too_many = (run.training.model_copy(update={"micro_batch_size": rows}) for rows in (14, 15))
    assert not misfits(grid, replace(run, training=few), LLADA_8B, [])
    checkpointed = replace(grid, runtime=grid.runtime.model_copy(update={"activation_checkpointing": True}))
    assert not misfits(checkpointed, run, LLADA_8B, [])
    assert misfits(grid, replace(run, training=too_many), LLADA_8B, [])


def test_where_one_change_is_not_enough_two_are_named(config):
    config["scales"]["llada-8b"]["cost"]["gpu_memory"] = 28
    grid, run = run_of(config, scale="llada-8b", runtime=STORED, micro_batch_size=16)
    (said,) = misfits(grid, run, LLADA_8B, [])
    where = "scales.llada-8b"
    assert (
        f". Set {where}.runtime.activation_checkpointing: true and {where}.methods.dmpo.micro_batch_size: 7 (" in said
    )


EVERY_WEIGHT = {"lora_rank": 0, "dtype": "float32"}
CHECKPOINTING = {"activation_checkpointing": True}


def test_gpus_that_train_every_weight_share_the_model(config):
    grid, run = run_of(config, scale="llada-8b", runtime=CHECKPOINTING, **EVERY_WEIGHT)
    one, eight = (training_memory(LLADA_8B, run, grid.cost, gpus) for gpus in (1, 8))
    for phase in one:
        for part in ("weights", "reference", "moments", "best"):
            assert one[phase][part] == 8 * eight[phase][part] > 0
    assert one["gradient"]["gradients"] == 8 * eight["gradient"]["gradients"] == 4 * 8_015_581_184
    # Without gradients the whole model is gathered, with a buffer for embedding, last norm and head; with gradients
    # these stay, with their gradient and its buffer.
    ends, layer = 2 * 126_464 * 4096, 4 * 4096**2 + 3 * 4096 * 12288 + 2 * 4096
    assert eight["rollouts"]["gathered"] == eight["scoring"]["gathered"] == 4 * (8_015_581_184 + ends)
    assert eight["gradient"]["gathered"] == pytest.approx(4 * (3 * ends + 4 * layer), rel=1e-6)
    assert all("gathered" not in parts for parts in one.values())


@pytest.mark.parametrize("method", ["dmpo", "diffu_grpo", "coupled_grpo", "diffpo"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_memory_named_for_more_gpus_is_that_of_the_plan(config, method, checkpointing):
    config["scales"]["llada-8b"]["cost"] |= {"gpus": 1, "gpu_memory": 130}
    runtime = {"activation_checkpointing": checkpointing}
    grid, run = run_of(config, method, "llada-8b", runtime, lora_rank=0, dtype="float32")
    (said,) = misfits(grid, run, LLADA_8B, [])
    gpus, size = re.search(r"cost\.gpus: (\d+) \((.+) GB\)", said).groups()
    more = replace(grid, cost=grid.cost.model_copy(update={"gpus": int(gpus)}))
    assert size == f"{max(memory_by_phase(more, run, LLADA_8B, []).values()):.1f}"


def test_a_run_that_trains_every_weight_is_told_how_many_gpus_hold_it(config):
    config["scales"]["llada-8b"]["cost"]["gpus"] = 2
    grid, run = run_of(config, scale="llada-8b", runtime=CHECKPOINTING, **EVERY_WEIGHT)
    (said,) = misfits(grid, run, LLADA_8B, [])
    assert "GB (rollouts) do not fit into the 80 GB" in said
    assert "Set scales.llada-8b.cost.gpus: 8 (" in said  # four hold the gradient but not the rollouts
    for gpus, fits in ((4, False), (8, True)):
        cost = grid.cost.model_copy(update={"gpus": gpus})
        assert (misfits(replace(grid, cost=cost), run, LLADA_8B, []) == []) == fits
    small = grid.cost.model_copy(update={"gpu_memory": 12})
    (said,) = misfits(replace(grid, cost=small), run, LLADA_8B, [])
    assert said.endswith(": use a GPU with more memory, a smaller model, or an adapter (lora_rank above 0).")


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
    assert said.endswith(": use a GPU with more memory, or a smaller model.")


def test_without_a_gpu_there_is_no_limit(config):
    grid, run = run_of(config, scale="laptop")
    assert misfits(grid, run, LLADA_8B, [grid.evaluations["papers"]]) == []


def test_the_settings_as_they_are_fit(config):
    config["scale"] = "llada-8b"
    grid = expand(config)
    for run in grid.runs.values():
        assert misfits(grid, run, LLADA_8B, list(grid.evaluations.values())) == [], run.name
