"""Base models made here: in both families, for one task or several, in bfloat16; and the scale that is for one GPU."""

import json
import subprocess
import sys

import pytest
import torch

from helpers.paths import ROOT
from unmask import methods, tasks
from unmask.common.seeding import Seeds
from unmask.config.grid.expand import expand
from unmask.evaluation.evaluate import evaluate
from unmask.evaluation.shards import ShardStore
from unmask.models.dream import DreamForMaskedDiffusion
from unmask.models.policy import Policy
from unmask.models.tiny import build_model, build_tokenizer
from unmask.training.pretrain import TaskData, pretrain
from unmask.training.trainer import Trainer

SMALL = {"hidden_size": 16, "layers": 1, "heads": 2, "mlp_size": 32}
FEW = {"train": 16, "validation": 4, "test": 4}
ONE_GPU = ["sudoku", "countdown", "chain", "simplify"]


def made(spec, seed=0):
    """An untrained model of a spec, and its lessons."""
    tokenizer = build_tokenizer()
    shape = spec.settings.model_dump(exclude={"source", "pretraining", "pretrained", "shared", "seed"})
    policy = Policy(build_model(**shape, vocabulary=len(tokenizer), seed=seed), tokenizer)
    lessons = []
    for name, settings in spec.tasks.items():
        task = tasks.load(name, settings)
        splits = task.splits()
        lessons.append(TaskData(task, splits["train"], splits["validation"], spec.settings.pretraining[name]))
    return policy, lessons


def saved(policy, folder):
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    return folder


def test_a_tiny_dream_learns_is_saved_and_predicts_from_the_position_before(grid, tmp_path):
    spec = grid.models["smoke-dream/sudoku/seed-0"]
    policy, lessons = made(spec)
    found = pretrain(policy, lessons, [24], 8, Seeds(("t",)), "dream")
    assert found.keys() == {"competence", "quality", "updates"}
    again = Policy.load(saved(policy, tmp_path), device="cpu")
    assert isinstance(again.model, DreamForMaskedDiffusion)
    ids = torch.randint(2, 50, (2, 9), generator=torch.Generator().manual_seed(0))
    body = super(DreamForMaskedDiffusion, again.model).hidden_states(ids)
    torch.testing.assert_close(again.model.hidden_states(ids, None, slice(4, 9)), body[:, 3:8])
    torch.testing.assert_close(again.model.hidden_states(ids), policy.model.eval().hidden_states(ids))


def test_a_shared_model_sees_every_task_and_is_gated_by_each(grid):
    spec = grid.models["smoke-shared/seed-0"]
    policy, lessons = made(spec)
    seen = {name: set() for name in spec.tasks}
    for lesson in lessons:  # which questions are posed
        name, pose = tasks.name_of(lesson.task), lesson.task.messages
        object.__setattr__(lesson.task, "messages", lambda e, n=name, p=pose: (seen[n].add(e["question"]), p(e))[1])
    found = pretrain(policy, lessons, [24], 8, Seeds(("t",)), "shared")
    assert list(found["quality"]) == list(found["competence"]) == list(spec.tasks)
    assert all(seen.values())
    strict = [lesson._replace(settings=lesson.settings.model_copy(update={"gate": [0.9, 1.0]})) for lesson in lessons]
    with pytest.raises(ValueError, match=f"shared: not a usable base for {next(iter(spec.tasks))}"):
        pretrain(policy, strict, [24], 8, Seeds(("t",)), "shared")


def test_the_step_finds_each_tasks_examples_by_its_folder(grid, tmp_path):
    """Whatever the order of the files: the model is the same; a missing one is named."""
    from unmask.common.parquet import write_rows

    spec = grid.models["smoke-shared/seed-0"]
    spec.write(tmp_path / "spec.yaml")
    files = []
    for name, settings in spec.tasks.items():
        splits = tasks.load(name, settings).splits()
        for split in ("train", "validation"):
            files.append(tmp_path / name / f"{split}.parquet")
            files[-1].parent.mkdir(exist_ok=True)
            write_rows(files[-1], splits[split])
    command = [sys.executable, str(ROOT / "src/prepare_model.py"), str(tmp_path / "spec.yaml"), "--weights",
               str(tmp_path / "weights"), "--manifest", str(tmp_path / "manifest.json"), "--data"]  # fmt: skip
    done = subprocess.run([*command, *map(str, reversed(files))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(json.loads((tmp_path / "manifest.json").read_text())["quality"]) == set(spec.tasks)
    done = subprocess.run([*command, *map(str, files[1:])], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"--data: {files[0].parent.name}/train.parquet is not among" in done.stderr


def test_bfloat16_is_that_of_products_and_leaves_the_weights_as_they_are(grid):
    spec = grid.models["smoke/sudoku/seed-0"]
    trained = {}
    for dtype in ("float32", "bfloat16"):
        policy, (lesson,) = made(spec)
        pretrain(policy, [lesson._replace(settings=lesson.settings.model_copy(update={"dtype": dtype}))], [24], 8,
                 Seeds(("t",)), dtype)  # fmt: skip
        trained[dtype] = policy.model.lm_head.weight
    assert trained["bfloat16"].dtype == torch.float32
    assert not torch.equal(*trained.values())
    torch.testing.assert_close(*trained.values(), atol=5e-3, rtol=0.1)


@pytest.fixture
def one_gpu(config):
    """The scale for one GPU, cut to a second: its layers of settings with other sizes."""
    config["scale"] = "one-gpu"
    config["models"]["small"] |= SMALL
    for name, settings in config["models"]["small"]["pretraining"].items():
        few = {"updates": 2, "batch_size": 4, "demonstrations": 8, "competence": 0.0, "gate": [0.0, 1.0]}
        config["models"]["small"]["pretraining"][name] = settings | few
    scale = config["scales"]["one-gpu"]
    scale["training"] |= {
        "buffers": 1, "updates_per_buffer": 2, "prompts_per_buffer": 2, "prompts_per_decode_batch": 2, "group_size": 2,
        "dtype": "bfloat16",
    }  # fmt: skip
    for task in ONE_GPU:
        scale["task_settings"][task] = scale["task_settings"].get(task, {}) | FEW
    return expand(config)


def test_the_scale_for_one_gpu_pretrains_trains_and_examines(one_gpu, tmp_path):
    run = one_gpu.runs["dmpo/sudoku/default/seed-0"]
    spec = one_gpu.models[run.model]
    policy, lessons = made(spec)
    pretrain(policy, lessons, spec.lengths[:1], spec.block_length, Seeds(("t",)), spec.name)
    policy = Policy.load(saved(policy, tmp_path / "weights"), device="cpu", dtype=run.training.dtype)
    assert policy.model.dtype == torch.bfloat16
    algorithm = methods.load(run.algorithm, run.method_settings)
    (lesson,) = lessons
    metrics = Trainer(run, policy, algorithm, lesson.task, lesson.train, tmp_path / "checkpoints", "x").train()
    assert [row["skipped"] for row in metrics] == [0, 0]
    evaluation = one_gpu.evaluations["papers"]
    rows = evaluate(policy, lesson.task, lesson.validation, run, evaluation, ShardStore(tmp_path / "parts", "x"))
    assert len(rows) == len(evaluation.samplers) * len(evaluation.lengths) * len(lesson.validation)


@pytest.mark.parametrize("name", ONE_GPU)
def test_its_demonstrations_fit_and_are_right(config, name):
    """At every length, of the problems as hard as they are there."""
    import random

    config["scale"] = "one-gpu"
    scale = config["scales"]["one-gpu"]
    settings = config["tasks"][name] | scale["task_settings"][name] | {"train": 64, "validation": 8, "test": 8}
    task, rng = tasks.load(name, settings), random.Random(0)
    policy = Policy(build_model(**SMALL, rope_theta=1e3, vocabulary=56, seed=0), build_tokenizer())
    for length in scale["lengths"]:
        for example in task.splits()["train"]:
            right, wrong = (task.demonstration(example, length, kind, rng) for kind in (True, False))
            assert tasks.total_reward(task, right, example) == 1
            assert tasks.total_reward(task, wrong, example) < 1
            assert policy.responses([right, wrong], length).shape == (2, length)
